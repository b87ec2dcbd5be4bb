"""Short trials tell augmentations apart that suit the pictures from those that do not."""

from pathlib import Path

import pytest

from pipeline.config import config_from_dict
from pipeline.data.suggest.candidates import candidates
from pipeline.runner.trials import tried


@pytest.mark.slow
def test_a_trial_finds_that_shifts_suit_digits_better_than_half_of_each(tmp_path: Path) -> None:
    def config(recipe: object) -> dict[str, object]:
        return {
            "data": {"source": "digits", "recipe": recipe, "dir": str(tmp_path), "resolution": 8},
            "cluster": {"workers": 1},
            "supernet": {
                "batch_size": 32,
                "lr": 0.1,
                "schedule": "one_cycle",
                "random_widths": 1,
                "bootstrap": "labels",
            },
        }

    tiny = {"base": "imagenet", "scale": [0.05, 0.1], "crop": 1.0}
    recipes = {"shifts": "digits", "small parts": tiny}
    reached = tried(
        {name: config_from_dict(config(recipe)) for name, recipe in recipes.items()}, 5000
    )
    assert reached["shifts"] > 0.5
    assert reached["shifts"] > reached["small parts"]


def test_candidates_are_the_suggestion_and_two_that_differ() -> None:
    crops = {"base": "imagenet", "scale": [0.5, 1.0], "flip": True, "crop": 1.0}
    for recipe in ("digits", "cifar", crops):
        found = candidates(recipe)
        assert found["suggested"] == recipe
        values = [config_from_dict(_with(each)).data.recipe for each in found.values()]
        assert len({str(value) for value in values}) == 3
    assert candidates(crops)["not mirrored"] == {**crops, "flip": False}


def _with(recipe: object) -> dict[str, object]:
    return {"data": {"source": "digits", "recipe": recipe, "resolution": 32}}
