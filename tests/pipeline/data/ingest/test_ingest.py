"""A beton holds just the pictures of its source, and is whole or not there."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dsnet.errors import InputError
from dsnet.io.files import sha256
from dsnet.runtime.pictures import read_picture
from pipeline.data.ffcv import Compiler, IntField, Reader
from pipeline.data.ingest import ingest as ingesting
from pipeline.data.ingest.encode import Encoder, by_threads, shrink
from pipeline.data.ingest.ingest import ingest
from pipeline.data.manifest import Manifest, manifest_path, read_manifest, verify
from pipeline.data.sources import open_source
from pipeline.data.sources.base import Sample, Source
from pipeline.data.threads import torch_threads
from tests import forked
from tests.pipeline.data.conftest import encoded, smooth_picture


class Pictures(Source):
    """A source of pictures at hand."""

    name, split, classes = "pictures", "train", ("a", "b")

    def __init__(self, *images: bytes | np.ndarray, version: str = "1") -> None:
        self.images, self.version, self.reads = images, version, 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        return Sample(self.images[index], index % 2, f"picture {index}")

    def fingerprint(self) -> str:
        return self.version


def pixels(source: Source) -> list[np.ndarray]:
    """Every picture of a source, decoded."""
    images = [source[i].image for i in range(len(source))]
    return [read_picture(i, "") if isinstance(i, bytes) else i for i in images]


def test_ffcv_itself_reads_the_file_and_finds_the_same_pixels_and_labels(digits: Manifest) -> None:
    import ffcv.loader
    from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder

    with torch_threads():
        Compiler.set_enabled(False)  # six seconds of compilation would change no pixel
        try:
            loader = ffcv.loader.Loader(
                str(digits.beton),
                batch_size=100,
                num_workers=1,
                drop_last=False,
                pipelines={"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]},
            )
            batches = [(images.copy(), labels.copy()) for images, labels in loader]
        finally:
            Compiler.set_enabled(True)
    source = open_source("digits", "test")
    assert np.array_equal(np.concatenate([i for i, _ in batches]), np.stack(pixels(source)))
    labels = np.concatenate([labels for _, labels in batches])[:, 0]
    assert labels.tolist() == [source[i].label for i in range(360)]
    assert isinstance(loader.reader.handlers["label"], IntField)


def test_the_manifest_describes_the_pictures(photos: Path, photos_raw: Manifest) -> None:
    images = pixels(open_source(str(photos), "train"))
    assert photos_raw.samples == 15
    assert photos_raw.classes == ("bear", "cat", "dog")
    assert photos_raw.labels().tolist() == 5 * [0] + 5 * [1] + 5 * [2]
    assert photos_raw.digest == sha256(photos_raw.beton)
    assert photos_raw.size == photos_raw.beton.stat().st_size
    assert photos_raw.max_height == max(len(image) for image in images)
    assert photos_raw.max_width == max(len(image[0]) for image in images)
    mean = np.mean([image.mean((0, 1)) / 255 for image in images], 0)
    square = np.mean([((image / 255.0) ** 2).mean((0, 1)) for image in images], 0)
    np.testing.assert_allclose(photos_raw.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(photos_raw.std, np.sqrt(square - mean**2), rtol=1e-9)


def test_the_bytes_do_not_depend_on_the_workers(photos: Path, tmp_path: Path) -> None:
    source = open_source(str(photos), "train")
    digests = {ingest(source, tmp_path / f"{n}.beton", workers=n).digest for n in (1, 2, 5)}
    assert len(digests) == 1


def test_the_same_again_is_recognised_and_not_read(tmp_path: Path) -> None:
    source = Pictures(np.zeros((4, 4, 3), np.uint8))
    first = ingest(source, tmp_path / "x.beton")
    written = (tmp_path / "x.beton").stat().st_mtime_ns
    assert ingest(source, tmp_path / "x.beton") == first
    assert source.reads == 1
    assert (tmp_path / "x.beton").stat().st_mtime_ns == written


@pytest.mark.parametrize("change", ["source", "option", "no manifest", "damaged"])
def test_anything_else_is_written_anew(tmp_path: Path, change: str) -> None:
    dest = tmp_path / "x.beton"
    old = Pictures(np.zeros((4, 4, 3), np.uint8))
    ingest(old, dest)
    source = Pictures(np.ones((4, 4, 3), np.uint8), version="2") if change == "source" else old
    if change == "no manifest":
        manifest_path(dest).unlink()
    if change == "damaged":
        dest.write_bytes(b"")
    before = source.reads
    manifest = ingest(source, dest, quality=80 if change == "option" else 90)
    assert source.reads == before + 1
    assert verify(dest) == manifest


def test_a_damaged_picture_too_many_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    good = encoded(smooth_picture(40, 40, seed=0), "JPEG")
    images = [good] * 60
    images[37] = good[: len(good) // 2]
    with pytest.raises(InputError, match=r" picture 37: expected a picture that decodes"):
        ingest(Pictures(*images), tmp_path / "x.beton", workers=3, max_bad=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("label", [-3, 2, 99])
def test_a_label_that_is_no_class_is_refused_and_nothing_is_left(
    tmp_path: Path, label: int
) -> None:
    class Mislabelled(Pictures):
        def __getitem__(self, index: int) -> Sample:
            return replace(super().__getitem__(index), label=label)

    with pytest.raises(
        InputError, match=f"^picture 0: expected a label from 0 to 1, found {label}"
    ):
        ingest(Mislabelled(np.zeros((4, 4, 3), np.uint8)), tmp_path / "x.beton")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_ingest_leaves_what_was_there(tmp_path: Path) -> None:
    before = ingest(Pictures(np.zeros((4, 4, 3), np.uint8)), tmp_path / "x.beton")
    with pytest.raises(InputError):
        ingest(Pictures(b"", version="2"), tmp_path / "x.beton")
    assert verify(tmp_path / "x.beton") == before


def killed(_: int, dest: Path, moment: str) -> None:
    """An ingest of digits that is killed at its 1000th picture, or before its manifest."""

    def kill(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    source = open_source("digits", "train")
    if moment == "picture":
        read = type(source).__getitem__
        type(source).__getitem__ = lambda self, i: kill() if i == 1000 else read(self, i)  # type: ignore[assignment,method-assign]
    else:
        ingesting.write_manifest = kill  # type: ignore[assignment]
    ingest(source, dest)


@pytest.mark.parametrize("moment", ["picture", "manifest"])
def test_an_ingest_that_is_killed_is_never_taken_for_whole(tmp_path: Path, moment: str) -> None:
    dest = tmp_path / "x.beton"
    ingest(open_source("digits", "test"), dest)
    (process,) = forked.start(killed, dest, moment).processes
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    if moment == "picture":
        assert verify(dest).split == "test"  # what was there before
    else:
        with pytest.raises(InputError, match="expected its manifest"):
            read_manifest(dest)
    assert ingest(open_source("digits", "train"), dest) == verify(dest)


def test_an_ingest_that_is_told_to_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    first = tmp_path / "pictures" / "a" / "0.png"
    first.parent.mkdir(parents=True)
    first.write_bytes(encoded(noise))
    for number in range(1, 300):
        (first.parent / f"{number}.png").hardlink_to(first)
    dest = tmp_path / "out"
    dest.mkdir()
    command = [sys.executable, "-m", "jobs.cli", "ingest", str(tmp_path / "pictures"), str(dest)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not list(dest.iterdir()):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert told.splitlines()[-1] == "dsnet: terminated" and "Traceback" not in told
    assert not list(dest.iterdir())


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        ((300, 200), 100, (100, 66)),
        ((200, 300), 100, (66, 100)),
        ((90, 100), 100, (90, 100)),
        ((5, 2000), 100, (1, 100)),
        ((300, 200), None, (300, 200)),
    ],
)
def test_max_resolution_bounds_the_longer_side(
    size: tuple[int, int], limit: int | None, expected: tuple[int, int]
) -> None:
    assert shrink(smooth_picture(*size, seed=0), limit).shape == (*expected, 3)


def test_smart_keeps_small_pictures_to_the_bit_and_compresses_large_ones(tmp_path: Path) -> None:
    images = [smooth_picture(64, 64, seed=0), smooth_picture(64, 65, seed=1)]
    manifest = ingest(Pictures(*images), tmp_path / "x.beton")
    modes = Reader(str(manifest.beton)).metadata["f0"]["mode"]
    assert modes.tolist() == [1, 0]  # FFCV's numbers for raw and jpg


class Unready(Pictures):
    """Whose second picture is not there yet."""

    def __init__(self) -> None:
        super().__init__(*[smooth_picture(16, 16, seed=0)] * 2)
        self.ready = threading.Event()

    def __getitem__(self, index: int) -> Sample:
        if index:
            self.ready.wait()
        return super().__getitem__(index)


def test_encoding_that_is_given_up_waits_for_no_thread() -> None:
    """The garbage collector ends it, and does that under any lock that a thread might wait for."""
    source = Unready()
    encoding = by_threads(Encoder(source, None, 90, "raw"), 1)
    next(encoding)
    end = threading.Thread(target=encoding.close, daemon=True)
    end.start()
    end.join(10)
    try:
        assert not end.is_alive()
    finally:
        source.ready.set()


def test_quality_is_that_of_the_jpeg(tmp_path: Path) -> None:
    image = smooth_picture(100, 100, seed=0)
    sizes = []
    for quality in (50, 95):
        beton = ingest(Pictures(image), tmp_path / f"{quality}.beton", quality=quality).beton
        sizes.append(int(Reader(str(beton)).alloc_table["size"][0]))
    assert sizes[0] < sizes[1]
    opencv = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    assert sizes[0] == opencv.nbytes


def test_a_picture_larger_than_a_page_of_the_file_is_refused(tmp_path: Path) -> None:
    image = np.zeros((2000, 2000, 3), np.uint8)  # 12 MB of pixels; a page holds 8 MiB
    with pytest.raises(InputError, match=r"picture 0: .*set max_resolution"):
        ingest(Pictures(image), tmp_path / "x.beton", write_mode="raw")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality": 101}, "quality: expected 1 to 100, found 101"),
        ({"max_resolution": 0}, "max_resolution: expected 1"),
        ({"write_mode": "png"}, "write_mode: expected raw, jpg, smart, found 'png'"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, options: dict[str, int | str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        ingest(open_source("digits", "test"), tmp_path / "x.beton", **options)


def test_a_folder_as_destination_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"found a folder; name a file in it, such as .*test\.beton"
    ):
        ingest(open_source("digits", "test"), tmp_path)
