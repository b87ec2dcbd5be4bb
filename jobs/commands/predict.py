"""dsnet predict: classify image files, or make clean pictures of noisy ones."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsnet.errors.text import escaped
from jobs.output import JsonList, json_flag, print_table, working

if TYPE_CHECKING:
    from dsnet.errors import InputError
    from dsnet.pyfunc import Runner
    from dsnet.routing.target import Target
    from pipeline.predict.stream import Row

PASSED_OVER = 3  # exit status where some of the files were no images
ROWS = 1000  # of one printed table: as many are held


@click.command("predict")
@click.argument("model", metavar="MODEL")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "--budget",
    metavar="TARGET",
    help="Multiply-adds to spend on average: a fraction of the widest routable sub-network's (0.5) "
    "or a count (200M); left out: the target of MODEL's alias, else as the model was tuned.",
)
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    default=1,
    metavar="K",
    help="Give the K likeliest classes too: labels, classes, confidences.",
)
@click.option(
    "--backend",
    type=click.Choice(["torch", "onnxruntime"]),
    help="What computes; left out: ONNX Runtime where that and MODEL's own ONNX file are there "
    "(it starts faster), else PyTorch.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the answers to FILE, whole or not at all, and print none: .parquet, .csv, or "
    ".jsonl (JSON lines). For a model whose answers are pictures: the picture, or the folder for "
    "several.",
)
@click.option(
    "--reference",
    metavar="PATH",
    help="For a model whose answers are pictures: the clean picture, or the folder with several of "
    "the same names, to say how near each comes (PSNR).",
)
@click.option(
    "--tile",
    type=click.IntRange(min=64),
    default=512,
    show_default=True,
    metavar="PIXELS",
    help="For a model whose answers are pictures: side of the tiles that large ones are cut into, "
    "each of which runs at its own width.",
)
@json_flag
def command(
    model: str,
    images: tuple[str, ...],
    budget: str | None,
    top_k: int,
    backend: str | None,
    out: Path | None,
    reference: str | None,
    tile: int,
    as_json: bool,
) -> int:
    """Run MODEL, a models:/ URI or a model directory, on image files: classify them, or with a
    model whose answers are pictures (a denoiser) write what it makes of them to --out.

    IMAGE is a picture file (PNG, JPEG, GIF, BMP, PPM, TIFF, WebP, JPEG 2000, AVIF; grey, in colour,
    transparent), a folder with files anywhere below it, or - for a list of both on standard input,
    one a line or ended by NUL. Any number of them takes the same memory. What is not an image is
    listed on stderr and passed over; the exit status is then 3, and 2 where nothing is left.

    \b
    Examples:
      dsnet predict models:/digits@champion three.png
      dsnet predict models:/digits@target-50pct three.png --top-k 3
      dsnet predict ./pulled photos/ --budget 0.5 --out answers.parquet
      find photos -name '*.jpg' -print0 | dsnet predict ./pulled - --json
      dsnet predict models:/denoise@champion noisy.png --out clean.png
      dsnet predict ./denoiser noisy/ --out clean/ --reference originals/ --json
    """
    with working():
        from pipeline.predict.files import listed
        from pipeline.predict.model import open_runner

    named = [
        path
        for image in images
        for path in (listed(sys.stdin.buffer.read()) if image == "-" else [image])
    ]
    problems = Problems()
    with ExitStack() as stack:
        with working():
            runner, spent = stack.enter_context(open_runner(model, budget, backend))
            if runner.pictures is None:
                if reference is not None:
                    raise click.UsageError("--reference is for models whose answers are pictures")
                batches, table = _classified(runner, named, spent, top_k, out, problems.add)
            else:
                batches = _restored(runner, named, spent, out, reference, tile, problems.add)
                table = None
        document = JsonList()
        sinks: list[Callable[[Sequence[Row]], object]] = [document.add] if as_json else []
        if table is not None:
            sinks.append(stack.enter_context(table))
        shown = print_predictions if runner.pictures is None else print_pictures
        sinks = sinks or [stack.enter_context(tables(shown))]
        count = 0
        for rows in working_through(batches):
            problems.tell()
            count += len(rows)
            for sink in sinks:
                sink(rows)
        if not count:
            raise problems.nothing_left()
        problems.tell()
    if as_json:
        document.end()
    elif table is not None:
        click.echo(f"{out}: {count:,} images")
    return PASSED_OVER if problems.count else 0


def _classified(
    runner: "Runner",
    named: list[str],
    budget: "Target | str | None",
    top_k: int,
    out: Path | None,
    passed_over: Callable[[str], object],
) -> "tuple[Iterator[list[Row]], AbstractContextManager[Callable[[Sequence[Row]], None]] | None]":
    """The answers, and the file that they are to be written to."""
    from pipeline.predict.files import expand
    from pipeline.predict.stream import predict
    from pipeline.predict.table_file import check_suffix, table_file

    if out is not None:
        check_suffix(out)
    batches = predict(runner, expand(named), budget, top_k, passed_over)
    return batches, None if out is None else table_file(out, top_k)


def _restored(
    runner: "Runner",
    named: list[str],
    budget: "Target | str | None",
    out: Path | None,
    reference: str | None,
    tile: int,
    passed_over: Callable[[str], object],
) -> "Iterator[list[Row]]":
    from pipeline.predict.pictures import restorations, restored

    if out is None:
        raise click.UsageError("this model's answers are pictures: expected --out FILE or FOLDER")
    return restored(runner, restorations(named, out, reference), budget, tile, passed_over)


class Problems:
    """What is wrong with the files that are skipped; printed together with the next answers."""

    def __init__(self) -> None:
        self.count = 0
        self._untold: list[str] = []
        self._first = ""

    def add(self, problem: str) -> None:
        """Another file, and what is wrong with it."""
        self._first = self._first or problem
        self.count += 1
        self._untold.append(problem)

    def tell(self) -> None:
        """A line on stderr for each that was not told yet."""
        for problem in self._untold:
            click.echo(f"passed over: {escaped(problem)}", err=True)
        self._untold.clear()

    def nothing_left(self) -> "InputError":
        """The error that says so."""
        from dsnet.errors import InputError

        if self.count == 1:
            return InputError(self._first)
        return InputError(f"expected images, found none in {self.count:,} files: {self._first}")


def working_through(batches: "Iterator[list[Row]]") -> "Iterator[list[Row]]":
    """The same batches; what libraries print while one is made goes to stderr."""
    while True:
        with working():
            rows = next(batches, None)
        if rows is None:
            return
        yield rows


@contextmanager
def tables(
    shown: "Callable[[Sequence[Row]], object]",
) -> "Iterator[Callable[[Sequence[Row]], None]]":
    """Yields what takes rows, for tables on stdout of up to ROWS each."""
    held: list[Row] = []

    def add(rows: "Sequence[Row]") -> None:
        held.extend(rows)
        while len(held) >= ROWS:
            shown(held[:ROWS])
            del held[:ROWS]

    yield add
    if held:
        shown(held)


def print_predictions(rows: "Sequence[Row]", title: str = "") -> None:
    """What the model says of each image, as a table."""
    print_table(
        ("image", "class", "confidence", "width", "multiply-adds"),
        [
            (row["path"], _likeliest(row), f"{row['confidence']:.1%}", row["width"], row["madds"])
            for row in rows
        ],
        title,
    )


def print_pictures(rows: "Sequence[Mapping[str, Any]]") -> None:
    """What has become of each picture, as a table."""
    compared = any("psnr" in row for row in rows)
    print_table(
        ("image", "written to", "width", "multiply-adds", *(["PSNR"] if compared else [])),
        [
            (row["path"], row["out"], row["width"], row["madds"], *([_psnr(row)] * compared))
            for row in rows
        ],
    )


def _psnr(row: Mapping[str, Any]) -> str:
    value = row.get("psnr")
    return "equal" if value is None else f"{value:.2f} dB"


def _likeliest(row: "Row") -> str:
    """The class, or the likeliest ones with how sure each is."""
    if "labels" not in row:
        return str(row["label"] if row["class"] is None else row["class"])
    likeliest = zip(row["labels"], row["classes"], row["confidences"], strict=True)
    return ", ".join(
        f"{label if name is None else name} {sure:.1%}" for label, name, sure in likeliest
    )
