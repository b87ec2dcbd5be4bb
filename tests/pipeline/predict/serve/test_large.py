"""Large images are decoded in a process that slows no other, and what happens to it is answered."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsnet.errors import InputError
from pipeline.predict.serve.large import LargeImages
from pipeline.predict.serve.requests import Refusal, pixels_of


def photograph() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((2400, 1600)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def decode() -> LargeImages:
    return LargeImages()


def test_it_gives_the_same_pixels_and_the_same_refusals(decode: LargeImages) -> None:
    image = photograph()
    np.testing.assert_array_equal(
        decode(image, "image 0", 64, 0.875), pixels_of(image, "image 0", 64, 0.875)
    )
    with pytest.raises(InputError, match="image 7: expected a picture that decodes"):
        decode(image[:-100], "image 7", 64, 0.875)


def test_it_takes_only_what_others_leave_of_the_cores(decode: LargeImages) -> None:
    decode(photograph(), "image 0", 64, 1.0)
    assert os.sched_getscheduler(decode.pid) == os.SCHED_IDLE


def test_the_next_call_starts_a_process_that_was_killed(decode: LargeImages) -> None:
    image = photograph()
    decode(image, "image 0", 64, 1.0)
    os.kill(decode.pid, 9)
    with pytest.raises(Refusal, match="image 1: decoding it took too much") as refused:
        decode(image, "image 1", 64, 1.0)
    assert refused.value.status == 503
    assert decode(image, "image 2", 64, 1.0).shape == (64, 64, 3)


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(photograph())
    program = (
        "import os, pathlib, sys\n"
        "from pipeline.predict.serve.large import LargeImages\n"
        "decode = LargeImages()\n"
        "decode(pathlib.Path(sys.argv[1]).read_bytes(), '', 8, 1.0)\n"
        "print(decode.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "image.jpg")], stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 20
    while Path("/proc", ended.stdout.decode().strip(), "cmdline").exists():
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.05)
