"""dsnet inspect: what a beton or a source of pictures holds, as a table or a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.output import json_flag, print_json, print_table, working

if TYPE_CHECKING:
    from pipeline.data.manifest import Manifest
    from pipeline.data.sources.base import Source


@click.command("inspect")
@click.argument("data", metavar="DATA…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Write a page: classes, pictures as a training sees them, what was left out.",
)
@click.option(
    "--recipe",
    default="light",
    show_default=True,
    metavar="NAME|MAPPING",
    help="What happens to a picture on its way in, as data.recipe has it: a name, or a base and "
    "what differs ('{base: imagenet, color_jitter: 0.4}').",
)
@click.option(
    "--resolution",
    type=click.IntRange(8, 4096),
    default=224,
    show_default=True,
    metavar="PIXELS",
    help="Side of what the network sees (data.resolution).",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@json_flag
def command(
    data: tuple[Path, ...],
    out: Path | None,
    recipe: str,
    resolution: int,
    seed: int,
    as_json: bool,
) -> None:
    """Say what DATA hold: folders of pictures (or any other data.source), or .beton files and
    folders of them, that ingest or a chain has written.

    \b
    Examples:
      dsnet inspect ~/photographs
      dsnet inspect ~/.dsnet/data
      dsnet inspect data/train.beton --recipe cifar --resolution 32 --out train.html
      dsnet inspect data/train.beton --recipe '{base: paper, random_erasing: 0}' --out train.html
    """
    with working():
        from dsnet.io.files import atomic_file
        from pipeline.config import load_config
        from pipeline.report.data_page import render_data

        chosen = load_config(None, {"data.recipe": recipe}).data.recipe
        found = [each for path in data for each in _opened(path)]
        rows = [_row(each, out) for each in found]
        if out is not None:
            page = render_data(
                _betons_alone(found), recipe=chosen, resolution=resolution, seed=seed
            )
            with atomic_file(out) as temporary:
                temporary.write_text(page, encoding="utf-8")
    if as_json:
        print_json(rows)
        return
    print_table(
        (
            "data",
            "pictures",
            "classes",
            "largest class",
            "smallest",
            "left out",
            "in training too",
        ),
        [_cells(row, each) for row, each in zip(rows, found, strict=True)],
    )
    if out is not None:
        click.echo(out)


def _opened(path: Path) -> "list[Manifest | Source]":
    """What is in the betons of a path, the training pictures first; or in a source of pictures."""
    from pipeline.config import Data
    from pipeline.data.manifest import verify
    from pipeline.data.sources.train_and_test import train_and_test

    betons = sorted(path.glob("*.beton")) if path.is_dir() else [path]
    if betons and betons[0].suffix == ".beton":
        return sorted(map(verify, betons), key=lambda manifest: manifest.split != "train")
    return [*train_and_test(Data(source=str(path)))]


def _betons_alone(found: "Sequence[Manifest | Source]") -> "list[Manifest]":
    """Raises InputError for a source: the page shows pictures through the loader of trainings."""
    from dsnet.errors import InputError
    from pipeline.data.manifest import Manifest

    manifests = [each for each in found if isinstance(each, Manifest)]
    if len(manifests) < len(found):
        raise InputError(
            "--out: expected .beton files, whose pictures the page shows as a training sees them, "
            "found a source of pictures; dsnet ingest SOURCE DIR writes them"
        )
    return manifests


def _row(data: "Manifest | Source", out: Path | None) -> dict[str, Any]:
    """What the JSON has of it; null is what is known of betons alone."""
    from pipeline.data.manifest import Manifest
    from pipeline.report.data_page import class_rows

    row: dict[str, Any] = {"beton": None, "source": None, "split": data.split}
    row |= {"pictures": len(data.labels()), "bytes": None}
    row["classes"] = {each.name: each.pictures for each in class_rows(data)}
    row |= dict.fromkeys(("left_out", "left_out_for", "unused", "in_common", "sha256"))
    row["page"] = None if out is None else str(out)
    if not isinstance(data, Manifest):
        return row | {"source": data.name}
    return row | {
        "beton": str(data.beton),
        "source": data.source,
        "bytes": data.size,
        "left_out": data.left_out,
        "left_out_for": list(data.left_out_for),
        "unused": data.unused,
        "in_common": data.in_common,
        "sha256": data.digest,
    }


def _cells(row: dict[str, Any], data: "Manifest | Source") -> tuple[str, ...]:
    (largest, most), *_ = classes = [*row["classes"].items()]
    smallest, fewest = classes[-1]
    left_out, in_common = row["left_out"], row["in_common"]
    compared = getattr(data, "compared_with", None)
    return (
        row["beton"] or f"{row['source']} {row['split']}",
        f"{row['pictures']:,}",
        f"{len(classes):,}",
        f"{most:,} {largest}",
        f"{fewest:,} {smallest}",
        "not decoded" if left_out is None else f"{left_out:,}",
        f"{in_common:,}" if compared else "not compared",
    )
