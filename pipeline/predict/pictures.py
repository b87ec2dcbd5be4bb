"""Image files in, image files out: for models whose answers are pictures."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsnet.errors import InputError
from dsnet.runtime.noise_level import noise_level
from dsnet.runtime.pictures import opened, picture_bytes, to_rgb
from dsnet.runtime.tiles import TILE, Surroundings, restore
from pipeline.cluster.progress import Progress
from pipeline.predict.files import expand
from pipeline.predict.source_picture import SourcePicture, read

if TYPE_CHECKING:
    from dsnet.pyfunc import Runner
    from dsnet.routing.target import Target

logger = logging.getLogger(__name__)

Row = dict[str, Any]
"""What became of one picture: path, out, width (of most of it), widths (of each tile), madds, and
psnr, in dB, where there is a picture to compare it with."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
# A picture's own level is a guess, in which texture counts as noise.
BELOW, ABOVE, SLACK = 0.5, 1.25, 3.0


@dataclass(frozen=True)
class Restoration:
    """A picture to be restored, and where the result goes."""

    path: str
    out: Path
    reference: str | None = None
    """What it is compared with."""


def restorations(
    named: Sequence[str], out: Path, reference: str | None = None
) -> list[Restoration]:
    """What is to be restored, of files and folders.

    out: for one file the name of another, else a folder, in which pictures have the names that they
    have below the folders named, as PNG. reference: for one file another, else a folder with
    pictures of the same names.
    Raises InputError, before anything is written, where a picture would be written over what is
    read, or two over each other.
    """
    if len(named) == 1 and not Path(named[0]).is_dir() and out.suffix.lower() in SUFFIXES:
        found = [Restoration(named[0], out, reference)]
    else:
        if out.suffix.lower() in SUFFIXES or out.is_file():
            raise InputError(f"--out: expected a folder for several pictures, found {out}")
        compared = None if reference is None else Path(reference)
        if compared is not None and not compared.is_dir():
            raise InputError(
                f"--reference: expected a folder, as there are several pictures, found {reference}"
            )
        found = [
            Restoration(
                path,
                (out / name).with_suffix(".png"),
                None if compared is None else str(compared / name),
            )
            for each in named
            for path, name in _named(each)
        ]
    both = [path for each in found for path in (each.path, each.reference) if path is not None]
    read = {Path(path).resolve() for path in both}
    written: dict[Path, str] = {}
    for each in found:
        place = each.out.resolve()
        if place in read:
            raise InputError(f"--out: {each.out} is read too: expected another name or folder")
        if place in written:
            raise InputError(
                f"--out: {written[place]} and {each.path} would both be {each.out}: give them one "
                "after the other"
            )
        written[place] = each.path
    return found


def restored(
    runner: "Runner",
    pictures: Sequence[Restoration],
    budget: "Target | str | None" = None,
    tile: int = TILE,
    passed_over: Callable[[str], object] | None = None,
) -> Iterator[list[Row]]:
    """Run a model whose answers are pictures: a row for each, written whole when it is given.

    budget: average multiply-adds to spend, of images of the model's own resolution; None: as it was
    tuned. tile: side of the tiles of large pictures. passed_over: told what is wrong with each file
    that is not an image; without, the first raises InputError. Raises InputError, before a file is
    read, for a budget out of range.
    """
    around = runner.pictures
    assert around is not None
    side = runner.metadata["resolution"]
    runner(np.zeros((0, side, side, 3), np.uint8), budget)
    return _each(runner, around, pictures, budget, tile, passed_over)


def _each(
    runner: "Runner",
    around: Surroundings,
    pictures: Sequence[Restoration],
    budget: "Target | str | None",
    tile: int,
    passed_over: Callable[[str], object] | None,
) -> Iterator[list[Row]]:
    with Progress("predict", len(pictures), "images") as progress:
        for done, each in enumerate(pictures, start=1):
            try:
                source = read(picture_bytes(each.path), each.path, each.out)
                wanted = _reference(each, source)
                _warn_of_other_noise(each.path, source.pixels, runner.metadata.get("task", {}))
                made = restore(
                    lambda pixels: runner(pixels, budget), source.pixels, around, tile, each.path
                )
            except InputError as error:
                if passed_over is None:
                    raise
                passed_over(str(error))
                continue
            if source.lost:
                logger.warning(
                    "%s: not kept in %s: %s", each.path, each.out, ", ".join(source.lost)
                )
            if source.grey:
                made.picture[:] = (made.picture.sum(2, dtype=np.uint16)[..., None] + 1) // 3
            source.write(made.picture, each.out)
            row = {"path": each.path, "out": str(each.out), "width": made.width}
            row |= {"widths": made.widths, "madds": made.madds}
            if wanted is not None:
                row["psnr"] = psnr(made.picture, wanted)
            yield [row]
            progress.update(done)


def psnr(picture: np.ndarray, other: np.ndarray) -> float | None:
    """10 log10(255² / mean squared error), in dB, of uint8 (H, W, 3); None where they are equal."""
    rows = zip(picture, other, strict=True)
    error = sum(int(((a.astype(np.int32) - b) ** 2).sum()) for a, b in rows) / picture.size
    return 10 * float(np.log10(255**2 / error)) if error else None


def _named(path: str) -> list[tuple[str, Path]]:
    """The files of a path, and what they are called below it."""
    root = Path(path)
    if not root.is_dir():
        return [(path, Path(root.name))]
    return [(file, Path(file).relative_to(root)) for file in expand([path]) if file != path]


def _reference(restoration: Restoration, source: SourcePicture) -> np.ndarray | None:
    if restoration.reference is None:
        return None
    with opened(picture_bytes(restoration.reference), restoration.reference) as reference:
        found = to_rgb(reference, restoration.reference, on_white=source.alpha is None)
    if found.shape != source.pixels.shape:
        sizes = [f"{each.shape[1]} x {each.shape[0]}" for each in (source.pixels, found)]
        raise InputError(
            f"{restoration.reference}: expected a picture of {sizes[0]} pixels, as "
            f"{restoration.path} has, found {sizes[1]}"
        )
    return found


def _warn_of_other_noise(path: str, picture: np.ndarray, task: Mapping[str, Any]) -> None:
    """Of a picture that looks much cleaner or noisier than what the model was trained with."""
    if "noise" not in task:
        return
    levels = task["noise"]
    low, high = levels if isinstance(levels, list | tuple) else (levels, levels)
    found = noise_level(picture)
    if not BELOW * low - SLACK <= found <= ABOVE * high + SLACK:
        trained = f"level {high:g}" if low == high else f"levels {low:g} to {high:g}"
        logger.warning(
            "%s: it looks like noise of level %.0f of 255, and the model was trained for %s",
            path,
            found,
            trained,
        )
