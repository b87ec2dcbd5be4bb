"""What betons hold, to look at: classes, pictures as a training sees them, what was left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config import OwnRecipe
from pipeline.data.loading.views import Views, views
from pipeline.data.manifest import Manifest
from pipeline.data.sources.base import Source
from pipeline.report.data_uri import picture_uri
from pipeline.report.page import render_template

SAMPLES, VIEWS = 8, 6
_MOST_SAMPLES = 24
_CLASSES_SHOWN = 48
_LEFT_OUT_SHOWN = 100
_ENLARGED_BELOW = 64  # pixels; shown with sharp edges


@dataclass(frozen=True)
class Shown:
    """A class, its pictures, and their share of the largest class's."""

    name: str
    pictures: int
    share: float


@dataclass(frozen=True)
class Strip:
    """A picture as it is evaluated, then as trainings would see it, as data URIs."""

    label: str
    sample: int
    uris: tuple[str, ...]


def render_data(
    manifests: Sequence[Manifest], *, recipe: str | OwnRecipe, resolution: int, seed: int = 0
) -> str:
    """The page as HTML. It loads nothing from anywhere, and its policy forbids it to.

    recipe, resolution: what a training would be given, see `Loader`; the seed chooses pictures too.
    Raises InputError if a beton is not what its manifest describes.
    """
    return render_template(
        "data.html",
        title="What the data hold",
        betons=[_beton(manifest, recipe, resolution, seed) for manifest in manifests],
        recipe=recipe,
        resolution=resolution,
        sharp=resolution < _ENLARGED_BELOW,
        seed=seed,
    )


def _beton(
    manifest: Manifest, recipe: str | OwnRecipe, resolution: int, seed: int
) -> dict[str, object]:
    classes = class_rows(manifest)
    half = _CLASSES_SHOWN // 2
    shown = classes if len(classes) <= _CLASSES_SHOWN else classes[:half] + classes[-half:]
    # One of every class, where there are not too many.
    samples = min(max(SAMPLES, len(classes)), _MOST_SAMPLES)
    found = views(manifest, recipe, resolution, samples=samples, views=VIEWS, seed=seed)
    found = sorted(found, key=lambda each: each.label)
    return {
        "manifest": manifest,
        "classes": shown,
        "hidden": len(classes) - len(shown),
        "largest": classes[0],
        "smallest": classes[-1],
        "strips": [_strip(manifest, each) for each in found],
        "left_out": manifest.left_out_for[:_LEFT_OUT_SHOWN],
    }


def class_rows(data: Manifest | Source) -> list[Shown]:
    """Every class, that with the most pictures first."""
    counts = np.bincount(data.labels(), minlength=len(data.classes)).tolist()
    pairs = sorted(zip(data.classes, counts, strict=True), key=lambda pair: -pair[1])
    return [Shown(name, count, count / pairs[0][1]) for name, count in pairs]


def _strip(manifest: Manifest, found: Views) -> Strip:
    pictures = (found.evaluated, *found.trained)
    return Strip(manifest.classes[found.label], found.sample, tuple(map(picture_uri, pictures)))
