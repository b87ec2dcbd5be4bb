"""dsnet ingest: pictures into a beton."""

from pathlib import Path

import click

from jobs.output import print_table, working
from pipeline.config.schema import LARGEST_TILE


@click.command("ingest")
@click.argument("source", metavar="SOURCE")
@click.argument("dest", metavar="DEST")
@click.option("--split", default="train", show_default=True, help="Which part of the source.")
@click.option(
    "--max-resolution",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Shrink pictures whose longer side is longer; left out: keep their size.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=90,
    show_default=True,
    help="Of the JPEGs stored; pictures of up to 64x64 pixels are stored as they are.",
)
@click.option(
    "--max-bad",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.001,
    show_default=True,
    help="Share of the pictures that may be left out because they do not decode or are too large. "
    "A handful always may: up to five, or a tenth of a small set. 0: none.",
)
@click.option(
    "--unlabelled",
    is_flag=True,
    help="For networks that learn no labels: of a folder all pictures below it.",
)
@click.option(
    "--tile",
    type=click.IntRange(8, LARGEST_TILE),
    metavar="PIXELS",
    help="Cut pictures into tiles of this side and store these without loss; the last of a row or "
    "column overlaps the one before. Left out: pictures as they are.",
)
@click.option(
    "--tasks",
    is_flag=True,
    help="Decode and encode on every CPU of the Ray cluster in RAY_ADDRESS, all of whose nodes see "
    "SOURCE; this process writes. Left out: on every core of this machine.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Write DEST again, also where it already holds these pictures.",
)
def command(
    source: str,
    dest: str,
    split: str,
    max_resolution: int | None,
    quality: int,
    max_bad: float,
    unlabelled: bool,
    tile: int | None,
    tasks: bool,
    force: bool,
) -> None:
    """Write the pictures of SOURCE to DEST, a .beton file or a folder for SPLIT.beton.

    SOURCE is the word digits, fashion-mnist or photographs, a folder with a folder of pictures for
    each class (or with such folders in a folder for each split), a list of paths and labels (.csv
    or .parquet), Parquet files in the layout of Hugging Face image datasets, tar shards in
    WebDataset's, or a folder of MNIST's IDX files or of CIFAR as torchvision has it; of lists,
    Parquet and tar a file, a folder or a pattern. Both SOURCE and DEST may be a URI (s3://, gs://,
    hf://, https://). See docs/data.md. Every picture is decoded and checked on the way; those that
    cannot be used are listed in the manifest next to DEST: a handful, or up to --max-bad of all.

    \b
    Examples:
      dsnet ingest digits data/ --split test
      dsnet ingest ~/imagenet data/train.beton --max-resolution 400
      dsnet ingest cifar10/train.parquet data/
      dsnet ingest 'shards/*-train-*.tar' data/
      dsnet ingest photos/train.csv data/
      dsnet ingest photographs data/ --tile 128
      dsnet ingest 's3://bucket/train-*.parquet' s3://bucket/betons/
    """
    from pipeline.config import is_uri, parse_uri
    from pipeline.data.ingest.ingest_to import ingest_to
    from pipeline.data.sources import open_source
    from pipeline.data.sources.tiles import Tiles

    if tile is not None and max_resolution is not None:
        raise click.UsageError(
            "--tile cuts a picture's own pixels: give it without --max-resolution"
        )
    beton = parse_uri(dest) if is_uri(dest) else Path(dest)
    if not beton.name.endswith(".beton"):
        beton = beton / f"{split}.beton"
    with working():
        if tasks:
            from pipeline.cluster.ray_cluster import join_or_start

            join_or_start()
        found = open_source(source, split, labelled=not unlabelled)
        manifest = ingest_to(
            found if tile is None else Tiles(found, tile),
            beton,
            max_resolution=max_resolution,
            quality=quality,
            max_bad=max_bad,
            tasks=tasks,
            force=force,
        )
    rows = [
        ("file", manifest.place),
        (
            ("pictures", f"{manifest.samples:,}")
            if tile is None
            else ("tiles", f"{manifest.samples:,} of {manifest.options['pictures']:,} pictures")
        ),
        ("left out", f"{manifest.left_out:,}"),
        ("classes", f"{len(manifest.classes):,}"),
        ("bytes", f"{manifest.size:,}"),
        ("sha256", manifest.digest),
    ]
    print_table(("beton", ""), rows)
