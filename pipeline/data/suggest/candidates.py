"""Augmentations that might suit the same pictures better: what `dsnet init --try` compares."""

from typing import Any

from pipeline.data.suggest.kinds import SHIFTED, WEAKEST_CROP

Recipe = str | dict[str, Any]


def candidates(recipe: Recipe) -> dict[str, Recipe]:
    """The suggested recipe and two others: mirrored or not, and with stronger crops."""
    if isinstance(recipe, str):
        flip = recipe == SHIFTED[True]
        mirrored: Recipe = SHIFTED[not flip]
        scale = WEAKEST_CROP
    else:
        flip, scale = recipe["flip"], recipe["scale"][0] / 2
        mirrored = {**recipe, "flip": not flip}
    cropped = {"base": "imagenet", "scale": [round(scale, 2), 1.0], "flip": flip, "crop": 1.0}
    return {
        "suggested": recipe,
        "not mirrored" if flip else "mirrored": mirrored,
        "smaller parts": cropped,
    }
