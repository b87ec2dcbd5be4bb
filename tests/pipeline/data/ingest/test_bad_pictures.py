"""What cannot be used is left out and listed, up to the share that is allowed."""

import json
import logging
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsnet.errors import InputError
from pipeline.data.ffcv import Reader
from pipeline.data.ingest.bad_pictures import MAX_BAD, BadPictures
from pipeline.data.ingest.ingest import ingest
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.manifest import verify
from pipeline.data.sources import open_source
from tests.pipeline.data.conftest import encoded, smooth_picture
from tests.pipeline.data.ingest.test_ingest import Pictures

GOOD = [encoded(smooth_picture(12, 12, seed), "PNG") for seed in range(60)]


def with_bad(*numbers: int) -> Pictures:
    """Sixty pictures, of which these are cut short."""
    return Pictures(*(data[:60] if i in numbers else data for i, data in enumerate(GOOD)))


@pytest.mark.parametrize("workers", [1, 3])
def test_bad_pictures_are_left_out_and_listed(tmp_path: Path, workers: int) -> None:
    manifest = ingest(with_bad(7, 37), tmp_path / "x.beton", max_bad=0.04, workers=workers)
    assert verify(tmp_path / "x.beton") == manifest
    assert (manifest.samples, manifest.left_out) == (58, 2)
    assert [reason.partition(":")[0] for reason in manifest.left_out_for] == [
        "picture 7",
        "picture 37",
    ]
    kept = [i for i in range(60) if i not in (7, 37)]
    assert manifest.labels().tolist() == [i % 2 for i in kept]
    how = {"batch_size": 58, "recipe": "cifar", "train": False, "resolution": 12}
    with Loader(manifest.beton, LoaderOptions(**how)) as loader:
        (batch,) = loader.epoch(0)
    expected = np.stack([smooth_picture(12, 12, seed) for seed in kept])
    assert np.array_equal(batch.images.numpy(), expected)
    assert Reader(str(manifest.beton)).num_samples == 58  # FFCV's own


def test_the_file_is_the_same_whatever_the_workers(tmp_path: Path) -> None:
    digests = {
        ingest(with_bad(7, 37), tmp_path / f"{n}.beton", max_bad=0.04, workers=n).digest
        for n in (1, 2, 5)
    }
    assert len(digests) == 1


def test_one_more_than_the_share_stops_the_ingest_with_a_summary(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        ingest(with_bad(7, 37, 41, 50, 51, 52, 53), tmp_path / "x.beton", max_bad=0.1)
    message = str(caught.value)
    assert (
        "at most 6 of 60 pictures that cannot be used (data.max_bad or --max-bad: 0.1)" in message
    )
    assert all(f"picture {number}:" in message for number in (7, 37, 41))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pictures", "share", "allowed"),
    # A handful, or a tenth of a small set; 0 means none, and one picture has to be left.
    [
        *((9, MAX_BAD, 1), (11, MAX_BAD, 2), (300, MAX_BAD, 5), (20_000, MAX_BAD, 20)),
        *((9, 0.5, 4), (300, 0.0, 0), (1, MAX_BAD, 0), (1, 0.9, 0)),
    ],
)
def test_a_handful_may_always_be_left_out(pictures: int, share: float, allowed: int) -> None:
    bad = BadPictures("source", pictures, share)
    for number in range(allowed):
        bad.add(InputError(f"picture {number}"))
    with pytest.raises(InputError, match=rf"at most {allowed} of {pictures:,} .*data\.max_bad"):
        bad.add(InputError("one more"))


def test_what_is_there_is_held_to_a_smaller_share_too(tmp_path: Path) -> None:
    first = ingest(with_bad(7), tmp_path / "x.beton")
    assert ingest(with_bad(7), tmp_path / "x.beton", max_bad=0.02) == first
    with pytest.raises(InputError, match=r"at most 0 of 60 .* picture 7:"):
        ingest(with_bad(7), tmp_path / "x.beton", max_bad=0)


def test_a_class_of_which_nothing_is_left_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        ingest(Pictures(GOOD[0], b"", GOOD[2]), tmp_path / "x.beton", max_bad=0.4)
    assert "no picture is left of b" in caplog.text
    assert "1 of 3 pictures are left out: picture 1" in caplog.text


# ------------------------------------------------------------------- a folder with one of each


def declaring(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def hostile_folder(folder: Path) -> Path:
    """Pictures of every kind, and what is none, in two classes."""
    picture = Image.fromarray(smooth_picture(40, 30, seed=1))
    frames = [Image.fromarray(smooth_picture(20, 20, seed)) for seed in range(30)]
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    sixteen = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(40, 30) * 50)
    good = {
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "avif.avif": encoded(picture, "AVIF"),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "la.png": encoded(picture.convert("LA")),
        "one_bit.png": encoded(picture.convert("1")),
        "one_pixel.png": encoded(Image.new("RGB", (1, 1))),
        "palette.png": encoded(picture.convert("P"), transparency=0),
        "sixteen.png": encoded(sixteen),
        "thin.png": encoded(Image.new("RGB", (1, 500))),
        "turned.jpg": encoded(picture, "JPEG", exif=exif.tobytes()),
        "größe 大.png": encoded(picture),
    }
    bad = {
        "bomb.png": declaring(50_000, 50_000),
        "bomb2.png": declaring(12_000, 12_000),
        "cut.jpg": encoded(picture, "JPEG")[:200],
        "empty.png": b"",
        "text.jpg": b"not a picture at all\n",
    }
    for name, data in (good | bad).items():
        path = folder / "many" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "one").mkdir()
    (folder / "one" / "only.png").write_bytes(encoded(picture))
    (folder / "one" / "notes.txt").write_text("not used")
    os.mkfifo(folder / "one" / "pipe.png")
    (folder / "one" / "again").symlink_to(folder / "one", target_is_directory=True)
    with (folder / "many" / "huge.jpg").open("wb") as file:
        file.truncate(2**27 + 1)  # a hole; nothing is read of it
    return folder


PROGRAM = """
import json, resource, sys
from pipeline.data.ingest.ingest import ingest
from pipeline.data.sources import open_source

source, dest, workers = sys.argv[1:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source = open_source(source, "train")
manifest = ingest(source, dest, max_bad=0.4, workers=int(workers))
taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([manifest.digest, taken]))
"""


def test_of_a_hostile_folder_everything_is_used_or_told(tmp_path: Path) -> None:
    folder = hostile_folder(tmp_path / "hostile")
    digests = []
    for workers in (1, 4):
        beton = tmp_path / f"{workers}.beton"
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder), str(beton), str(workers)],
            env=os.environ | {"LC_ALL": "C"},
            cwd=Path(__file__).parents[4],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert "1 .txt" in done.stderr and "1 no regular files" in done.stderr
        assert "not followed, since they lead back" in done.stderr
        digest, taken = json.loads(done.stdout)
        digests.append(digest)
        assert taken < 600_000  # kB, most of it OpenCV and FFCV
        manifest = verify(beton)
        assert (manifest.samples, manifest.left_out) == (12, 6)
        assert manifest.unused == {".txt": 1, "no regular files": 1}
        assert manifest.labels().tolist() == 11 * [0] + [1]
        told = {Path(r.partition(": ")[0]).name: r for r in manifest.left_out_for}
        assert list(told) == [
            "bomb.png",
            "bomb2.png",
            "cut.jpg",
            "empty.png",
            "huge.jpg",
            "text.jpg",
        ]
        assert "up to 134,217,728 pixels, found many more" in told["bomb.png"]
        assert "up to 57,142,857 pixels, found 12000 x 12000" in told["bomb2.png"]
        assert "up to 134,217,728 bytes" in told["huge.jpg"]
        assert "the file is empty" in told["empty.png"]
        assert "not a picture in any known format" in told["text.jpg"]
        turned = next(
            r for r in manifest.records() if (r["f0"]["width"], r["f0"]["height"]) == (40, 30)
        )
        assert turned["f1"] == 0
    assert len(set(digests)) == 1


def test_a_folder_of_good_pictures_is_as_it_was(tmp_path: Path, photos: Path) -> None:
    manifest = ingest(open_source(str(photos), "train"), tmp_path / "x.beton", max_bad=0.5)
    assert (manifest.samples, manifest.left_out, manifest.left_out_for) == (15, 0, ())
    assert (
        manifest.digest
        == ingest(open_source(str(photos), "train"), tmp_path / "y.beton", max_bad=0.0).digest
    )
