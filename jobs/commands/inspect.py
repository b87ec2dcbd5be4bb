"""dsnet inspect: what a beton holds, as a page."""

from pathlib import Path

import click

from jobs.output import print_json, print_table, working


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
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    data: tuple[Path, ...],
    out: Path | None,
    recipe: str,
    resolution: int,
    seed: int,
    as_json: bool,
) -> None:
    """Say what DATA hold: .beton files, or folders of them, that ingest or a chain has written.

    \b
    Examples:
      dsnet inspect ~/.dsnet/data
      dsnet inspect data/train.beton --recipe cifar --resolution 32 --out train.html
      dsnet inspect data/train.beton --recipe '{base: paper, random_erasing: 0}' --out train.html
    """
    with working():
        from dsnet.io.files import atomic_file
        from pipeline.config import load_config
        from pipeline.data.manifest import verify
        from pipeline.report.data_page import class_rows, render_data

        chosen = load_config(None, {"data.recipe": recipe}).data.recipe
        manifests = [verify(beton) for path in data for beton in _betons(path)]
        ends = [class_rows(manifest) for manifest in manifests]
        if out is not None:
            page = render_data(manifests, recipe=chosen, resolution=resolution, seed=seed)
            with atomic_file(out) as temporary:
                temporary.write_text(page, encoding="utf-8")
    if as_json:
        print_json(
            [
                {
                    "beton": str(manifest.beton),
                    "source": manifest.source,
                    "split": manifest.split,
                    "pictures": manifest.samples,
                    "bytes": manifest.size,
                    "classes": {row.name: row.pictures for row in rows},
                    "left_out": manifest.left_out,
                    "left_out_for": list(manifest.left_out_for),
                    "unused": manifest.unused,
                    "in_common": manifest.in_common,
                    "sha256": manifest.digest,
                    "page": None if out is None else str(out),
                }
                for manifest, rows in zip(manifests, ends, strict=True)
            ]
        )
        return
    print_table(
        (
            "beton",
            "pictures",
            "classes",
            "largest class",
            "smallest",
            "left out",
            "in training too",
        ),
        [
            (
                manifest.beton,
                f"{manifest.samples:,}",
                f"{len(manifest.classes):,}",
                f"{rows[0].pictures:,} {rows[0].name}",
                f"{rows[-1].pictures:,} {rows[-1].name}",
                f"{manifest.left_out:,}",
                f"{manifest.in_common:,}" if manifest.compared_with else "not compared",
            )
            for manifest, rows in zip(manifests, ends, strict=True)
        ],
    )
    if out is not None:
        click.echo(out)


def _betons(path: Path) -> list[Path]:
    from dsnet.errors import InputError

    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.beton"))
    if not found:
        raise InputError(
            f"{path}: expected .beton files in it, found none; dsnet ingest makes them"
        )
    return found
