"""Betons are held to their manifest: whatever was changed in one is refused, and never read."""

import fcntl
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dsnet.errors import InputError
from dsnet.io.files import sha256
from pipeline.data.augment.recipes import get_recipe
from pipeline.data.beton_format import ALLOC_TABLE_TYPE, METADATA_START, FieldDescType, HeaderType
from pipeline.data.digest import file_state, records_folder
from pipeline.data.ffcv import Reader
from pipeline.data.headers import picture_pixels
from pipeline.data.ingest.ingest import ingest
from pipeline.data.loading.decoder import DAMAGED, DECODED, OUTSIDE, decode
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.loading.mapped_file import MappedFile
from pipeline.data.manifest import Manifest, verify
from pipeline.data.sources import open_source
from pipeline.data.split import holdout

from .conftest import copy_of, fit_manifest

HOW = {"recipe": "imagenet", "resolution": 32, "train": True, "batch_size": 4}


def write(beton: Path, at: int, data: bytes) -> None:
    with open(beton, "r+b") as file:
        file.seek(at)
        file.write(data)


def header(beton: Path, **values: int) -> None:
    """Set fields of the file's header."""
    record = np.fromfile(beton, HeaderType, 1)
    for name, value in values.items():
        record[name] = value
    write(beton, 0, record.tobytes())


def sample(beton: Path, number: int, **values: int) -> None:
    """Set fields of a sample's record, or its label."""
    records = np.array(Reader(str(beton)).metadata[number : number + 1])
    for name, value in values.items():
        if name == "label":
            records["f1"] = value
        else:
            records["f0"][name] = value
    write(beton, METADATA_START + number * records.itemsize, records.tobytes())


def allocation(beton: Path, number: int, **values: int) -> None:
    """Set fields of a row of the allocation table."""
    reader = Reader(str(beton))
    row = np.array(reader.alloc_table[number : number + 1])
    for name, value in values.items():
        row[name] = value
    at = int(reader.header["alloc_table_ptr"]) + number * ALLOC_TABLE_TYPE.itemsize
    write(beton, at, row.tobytes())


def offsets(beton: Path) -> list[int]:
    """Ten places: in the header, a field's description, the samples' records, pixels and table."""
    chance = random.Random(0)
    reader = Reader(str(beton))
    table = int(reader.header["alloc_table_ptr"])
    pixels = chance.choices(reader.alloc_table, k=3)
    return [
        chance.randrange(HeaderType.itemsize),
        chance.randrange(HeaderType.itemsize, METADATA_START),
        *(chance.randrange(METADATA_START, METADATA_START + reader.metadata.nbytes) for _ in "123"),
        *(int(row["ptr"]) + chance.randrange(int(row["size"])) for row in pixels),
        chance.randrange(table, beton.stat().st_size),
        chance.randrange(beton.stat().st_size),
    ]


@pytest.mark.parametrize("which", range(10))
def test_a_single_changed_byte_is_refused_by_name(
    photos_jpeg: Manifest, tmp_path: Path, which: int
) -> None:
    beton = copy_of(photos_jpeg, tmp_path)
    at = offsets(beton)[which]
    old = beton.read_bytes()[at]
    write(beton, at, bytes([old ^ random.Random(which).randrange(1, 256)]))
    words = r"x\.beton: expected SHA-256 .* `dsnet ingest` again"
    with pytest.raises(InputError, match=words):
        Loader(beton, LoaderOptions(**HOW))
    with pytest.raises(InputError, match=words):
        holdout(Manifest(**vars(photos_jpeg) | {"beton": beton}), 0.2, seed=0)


def test_what_is_there_already_is_made_again_where_it_is_damaged(
    photos: Path, photos_jpeg: Manifest, tmp_path: Path
) -> None:
    beton = copy_of(photos_jpeg, tmp_path)
    write(beton, 9 * 2**20, b"\xff")
    options = {"write_mode": "jpg", "quality": 95}
    made = ingest(open_source(str(photos), "train"), beton, **options)
    assert sha256(beton) == made.digest == photos_jpeg.digest


def second_start_of_image(beton: Path) -> None:
    """Sample 2's address moved by two bytes: still in its own data."""
    sample(beton, 2, data_ptr=int(Reader(str(beton)).metadata["f0"]["data_ptr"][2]) + 2)


def off_the_file(beton: Path) -> None:
    """Sample 2 and its row of the table agree, far away."""
    sample(beton, 2, data_ptr=2**63 + 5)
    allocation(beton, 2, ptr=2**63 + 5)


def names_unknown(beton: Path) -> None:
    write(beton, HeaderType.itemsize + FieldDescType.fields["name"][1], b"pixel\0")


def kind_unknown(beton: Path) -> None:
    write(beton, HeaderType.itemsize, b"\x77")


def max_height(beton: Path) -> int:
    return int(Reader(str(beton)).metadata["f0"]["height"].max())


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "version": (lambda b: header(b, version=7), "version: expected 2, found 7"),
    "fields": (lambda b: header(b, num_fields=65535), "num_fields: expected 2, found 65535"),
    "page": (lambda b: header(b, page_size=0), "page_size: expected 8388608, found 0"),
    "samples": (lambda b: header(b, num_samples=2**62), "num_samples: expected 15, found 46116860"),
    "fewer": (lambda b: header(b, num_samples=14), "num_samples: expected 15, found 14"),
    "table": (lambda b: header(b, alloc_table_ptr=2**64 - 8), "alloc_table_ptr: expected"),
    "name": (names_unknown, "header, field: expected image of type RGBImageField, found another"),
    "kind": (kind_unknown, "header, field: expected image of type RGBImageField, found another"),
    "side 60000": (lambda b: sample(b, 3, width=60000), "sample 3, width: expected 1 to"),
    "side 0": (lambda b: sample(b, 4, height=0), "sample 4, height: expected 1 to .*, found 0"),
    "mode": (lambda b: sample(b, 5, mode=9), "sample 5, mode: expected 0 to 1, found 9"),
    "label 99": (lambda b: sample(b, 6, label=99), "sample 6, label: expected 0 to 2, found 99"),
    "label -3": (lambda b: sample(b, 7, label=-3), "sample 7, label: expected 0 to 2, found -3"),
    "pointer off": (second_start_of_image, "sample 2, data_ptr: expected"),
    "pointer away": (off_the_file, "sample 2, data_ptr: expected"),
    "size": (lambda b: allocation(b, 14, size=2**40), "sample 14, size: expected 1 to 8388608"),
    "size 0": (lambda b: allocation(b, 1, size=0), "sample 1, size: expected 1 to 8388608, found"),
    "overlap": (lambda b: allocation(b, 0, size=8000000), "sample 1, data_ptr: expected"),
    "sample": (lambda b: allocation(b, 1, sample_id=0), "sample 1, sample_id: expected 1, found 0"),
    "JPEG as raw": (lambda b: sample(b, 8, mode=1), "sample 8, size: expected 136371, found 6786"),
    "too high": (
        lambda b: sample(b, 9, height=9),
        "sample 9: expected a picture that decodes to",
    ),
    "too low": (lambda b: sample(b, 9, height=max_height(b)), "sample 9: expected a picture that"),
    "short": (
        lambda b: os.truncate(b, 20),
        "expected at least 2826 bytes for 15 samples, found 20",
    ),
}

READ = """
import sys
from pathlib import Path
from dsnet.errors import InputError
from pipeline.data.loading.loader import Loader, LoaderOptions
for path in sorted(Path(sys.argv[1]).glob("*.beton")):
    print(path.stem, end=": ", flush=True)
    try:
        options = LoaderOptions(recipe="imagenet", resolution=32, train=False, batch_size=4)
        with Loader(path, options) as loader:
            print("read", sum(len(batch.labels) for batch in loader.epoch(0)))
    except InputError as error:
        print(error, flush=True)
"""


def test_hostile_headers_are_refused_by_name_and_crash_nothing(
    photos_jpeg: Manifest, tmp_path: Path
) -> None:
    """In a process of their own, which a segmentation fault would end."""
    for name, (damage, _) in HOSTILE.items():
        beton = copy_of(photos_jpeg, tmp_path, f"{name}.beton")
        damage(beton)
        fit_manifest(beton)
    command = [sys.executable, "-c", READ, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    for name, (_, words) in HOSTILE.items():
        assert f"{name}.beton" in said[name] and "dsnet ingest" in said[name], name
        assert re.search(words, said[name]), said[name]
    assert done.returncode == 0, done.stderr


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node that has verified nothing; its folder of records."""
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    return records_folder()


@pytest.fixture
def verified(photos_jpeg: Manifest, tmp_path: Path, node: Path) -> tuple[Path, Path]:
    """A beton that this node has verified, and its record."""
    beton = copy_of(photos_jpeg, tmp_path)
    time.sleep(0.2)  # younger files are not remembered
    verify(beton)
    (record,) = node.glob("*.json")
    return beton, record


def flip(beton: Path) -> None:
    """Change one pixel's byte, and put the modification time back."""
    times = beton.stat().st_atime_ns, beton.stat().st_mtime_ns
    at = int(Reader(str(beton)).alloc_table["ptr"][3]) + 700
    write(beton, at, bytes([beton.read_bytes()[at] ^ 1]))
    os.utime(beton, ns=times)


def forge(record: Path, beton: Path) -> None:
    """Let the node remember the file as it is now: so only who reads it again finds a change."""
    record.write_text(
        json.dumps(json.loads(record.read_text()) | {"state": list(file_state(beton))})
    )


def test_a_node_reads_a_file_once(verified: tuple[Path, Path]) -> None:
    beton, record = verified
    written = record.stat().st_mtime_ns
    verify(beton).labels()
    Loader(beton, LoaderOptions(**HOW)).close()
    assert record.stat().st_mtime_ns == written
    flip(beton)
    forge(record, beton)
    Loader(beton, LoaderOptions(**HOW)).close()  # it would have been refused, had it been read
    assert record.parent.stat().st_mode & 0o777 == 0o700


def test_who_asks_at_the_same_time_waits_for_the_one_that_reads(
    verified: tuple[Path, Path],
) -> None:
    beton, record = verified
    flip(beton)
    with open(record.with_suffix(".lock"), "w") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = pool.submit(verify, beton)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        forge(record, beton)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert waiting.result(10).beton == beton


def test_a_file_that_changed_since_is_read_again(verified: tuple[Path, Path]) -> None:
    beton, _ = verified
    flip(beton)
    with pytest.raises(InputError, match="expected SHA-256"):
        verify(beton)


def test_a_manifest_that_changed_since_is_not_believed(verified: tuple[Path, Path]) -> None:
    beton, _ = verified
    fit_manifest(beton, digest=64 * "0")
    with pytest.raises(InputError, match="expected SHA-256 0000"):
        verify(beton)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2]", b'{"digest": 5}'])
def test_a_damaged_record_is_not_believed(verified: tuple[Path, Path], content: bytes) -> None:
    beton, record = verified
    good = record.read_text()
    record.write_bytes(content)
    verify(beton)
    assert record.read_text() == good
    flip(beton)
    record.write_bytes(content)
    with pytest.raises(InputError, match="expected SHA-256"):
        verify(beton)


def test_where_nothing_can_be_remembered_every_reader_verifies(
    photos_jpeg: Manifest, tmp_path: Path, node: Path, caplog: pytest.LogCaptureFixture
) -> None:
    beton = copy_of(photos_jpeg, tmp_path)
    node.chmod(0o777)  # anybody could write records into it
    time.sleep(0.2)
    verify(beton)
    assert "every stage reads it whole" in caplog.text
    assert list(node.iterdir()) == []
    flip(beton)
    with pytest.raises(InputError, match="expected SHA-256"):
        verify(beton)


def test_the_decoder_stays_within_its_room_whatever_it_is_told(photos_jpeg: Manifest) -> None:
    """Called as the loader calls it, past every check of the headers."""
    reader = Reader(str(photos_jpeg.beton))
    mapped = MappedFile(reader)
    storage = (np.asarray(mapped.content), mapped.addresses, mapped.sizes)
    pixels = picture_pixels(reader.metadata["f0"])

    def statuses(room: int, records: np.ndarray = reader.metadata, crop: float = 1.0) -> list[int]:
        written, scratch = np.empty(15, np.uint8), np.full(room + 4096, 7, np.uint8)
        recipe = get_recipe("imagenet").numbers(train=False)._replace(crop=crop)
        images = np.empty((15, 8, 8, 3), np.uint8)
        memory = (images, written, scratch[:room], recipe, np.zeros(1, np.uint64))
        decode(np.arange(15), memory, records["f0"], storage)
        assert (scratch[room:] == 7).all()
        return written.tolist()

    room = 3 * int(pixels.max())
    assert statuses(room) == 15 * [DECODED]
    short = 3 * int(np.sort(pixels)[7])
    expected = [DECODED if 3 * count <= short else DAMAGED for count in pixels]
    assert statuses(short) == expected
    assert statuses(room, crop=1.5) == 15 * [OUTSIDE]
    for name, value, status in (
        ("data_ptr", reader.metadata["f0"]["data_ptr"][4] + 1, OUTSIDE),
        ("data_ptr", 2**64 - 1, OUTSIDE),
        ("mode", 1, DAMAGED),
        ("width", 0, DAMAGED),
        ("height", 60000, DAMAGED),
        ("height", reader.metadata["f0"]["height"][4] - 1, DAMAGED),
    ):
        records = np.array(reader.metadata)
        records["f0"][name][4] = value
        records.setflags(write=False)
        assert statuses(room, records)[4] == status, (name, value)
