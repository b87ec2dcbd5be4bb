"""What a source claims in numbers and names is refused before it takes time or memory."""

import io
import json
import pickle
import tarfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.attacks.bounded import call

DEEP = "[" * 100_000


def tar(folder: Path, *labels: str) -> Path:
    with tarfile.open(folder / "x.tar", "w") as archive:
        for number, label in enumerate(labels):
            for name, content in ((f"{number}.png", b"any"), (f"{number}.cls", label.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return folder / "x.tar"


def csv(folder: Path, *labels: str) -> Path:
    rows = [f"{number}.png,{label}\n" for number, label in enumerate(labels)]
    (folder / "x.csv").write_text("path,label\n" + "".join(rows))
    return folder / "x.csv"


def parquet(folder: Path, labels: pa.Array, **metadata: str) -> Path:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", labels.type)], metadata=metadata)
    images = [{"bytes": b"any", "path": None}] * len(labels)
    pq.write_table(pa.table({"image": images, "label": labels}, schema), folder / "x.parquet")
    return folder / "x.parquet"


def named(folder: Path, names: object) -> Path:
    text = names if isinstance(names, str) else json.dumps(names)
    info = f'{{"info": {{"features": {{"label": {{"names": {text}}}}}}}}}'
    return parquet(folder, pa.array([0, 1]), huggingface=info)


def cifar(folder: Path, label: int) -> Path:
    for name in ("train", "test", "meta"):
        content = {"fine_labels": [label], "data": bytes(3072), "fine_label_names": ["a"]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=4))
    return folder


def names_file(folder: Path) -> Path:
    (folder / "classes.txt").write_text("".join(f"{number}\n" for number in range(2**21)))
    return csv(folder, "0", "1")


SPARSE = "labels that number the classes from 0, found 2 different ones up to "
CORPUS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "tar of eleven digits": (lambda f: tar(f, "99999999999", "0"), SPARSE + "99999999999"),
    "tar of 900 digits": (lambda f: tar(f, "9" * 900, "0"), SPARSE + "'999"),
    "tar of a million": (lambda f: tar(f, "1000000", "0"), SPARSE + "1000000"),
    "list of dates": (lambda f: csv(f, "20231100", "20231102"), SPARSE + "20231102"),
    "list of ten digits": (lambda f: csv(f, "3000000000", "0"), SPARSE + "3000000000"),
    "list of 6,000 digits": (lambda f: csv(f, "7" * 6000, "0"), SPARSE + "'777"),
    "two million names": (names_file, "up to 1,048,576 entries, found 2,097,152"),
    "parquet of ten digits": (lambda f: parquet(f, pa.array([0, 2**62])), SPARSE + str(2**62)),
    "parquet beyond 63 bits": (
        lambda f: parquet(f, pa.array([0, 2**64 - 1], pa.uint64())),
        "expected whole numbers",
    ),
    "names nested deep": (lambda f: named(f, DEEP), "huggingface: expected JSON"),
    "names nested deep, of ours": (
        lambda f: parquet(f, pa.array([0, 1]), classes=DEEP),
        "metadata classes: expected JSON",
    ),
    "names as text": (lambda f: named(f, "ab"), "expected JSON"),
    "names as one text": (lambda f: named(f, '"ab"'), "a list of class names, found 'ab'"),
    "no names": (lambda f: named(f, None), "a list of class names, found None"),
    "a name that is none": (lambda f: named(f, ["a", None]), "must be text, found None"),
    "a number as a name": (lambda f: named(f, ["a", 1]), "must be text, found 1"),
    "names as a number, of ours": (
        lambda f: parquet(f, pa.array([0, 1]), classes="2"),
        "a list of class names, found 2",
    ),
    "pickle of 30 digits": (lambda f: cifar(f, 10**30), "fine_labels up to 1,048,576"),
    "pickle of 6,000 digits": (lambda f: cifar(f, 10**6000), "fine_labels up to 1,048,576"),
}


def _ingest_each(sources: list[str], answers: str) -> None:
    """Where one takes what is allowed to all of them, it is the first without an answer."""
    from jobs import cli

    for source in sources:
        with redirect_stderr(io.StringIO()) as stderr, open(answers, "a") as file:
            try:
                status: object = cli.run(["ingest", source, "out/"])
            except Exception as error:
                status = type(error).__name__
            file.write(json.dumps([status, stderr.getvalue()]) + "\n")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, str]]:
    """How `dsnet ingest` ends with each, all in one process within the bounds of one."""
    folder = tmp_path_factory.mktemp("attacks")
    sources = []
    for number, (made, _) in enumerate(CORPUS.values()):
        (folder / str(number)).mkdir()
        sources.append(str(made(folder / str(number))))
    call(_ingest_each, sources, str(folder / "answers"))
    lines = (folder / "answers").read_text().splitlines()
    return dict(zip(CORPUS, map(json.loads, lines), strict=False))


@pytest.mark.parametrize("case", CORPUS)
def test_a_source_that_claims_much_is_refused_in_a_line_and_in_no_time(
    answers: dict[str, tuple[object, str]], case: str
) -> None:
    status, stderr = answers[case]
    (line,) = stderr.splitlines()
    assert status == 2 and CORPUS[case][1] in line and len(line) < 600
