"""A beton is taken for whole only with a manifest that matches it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dsnet.errors import InputError
from pipeline.data.manifest import Manifest, check_fits, manifest_path, read_manifest, verify
from pipeline.data.sources import open_source

from .conftest import copy_of


@pytest.fixture
def beton(digits: Manifest, tmp_path: Path) -> Path:
    """A copy of the digits to damage."""
    return copy_of(digits, tmp_path, "moved.beton")


def test_a_beton_and_its_manifest_may_be_moved_together(digits: Manifest, beton: Path) -> None:
    moved = verify(beton)
    assert moved.beton == beton
    assert (moved.digest, moved.samples, moved.classes) == (digits.digest, 360, tuple("0123456789"))


def test_labels_are_those_of_the_source(digits: Manifest) -> None:
    source = open_source("digits", "test")
    assert digits.labels().tolist() == [source[i].label for i in range(360)]
    assert digits.labels().dtype == np.int64


def edit(**changes: object) -> Callable[[Path], None]:
    def apply(beton: Path) -> None:
        path = manifest_path(beton)
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return apply


def forget(field: str) -> Callable[[Path], None]:
    def apply(beton: Path) -> None:
        content = json.loads(manifest_path(beton).read_text())
        del content[field]
        manifest_path(beton).write_text(json.dumps(content))

    return apply


def grow(beton: Path) -> None:
    with open(beton, "ab") as file:
        file.write(b"0")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda beton: beton.unlink(), "expected a beton, found no such file"),
        (lambda beton: manifest_path(beton).unlink(), "expected its manifest moved.beton.json"),
        (grow, "bytes as its manifest says"),
        (lambda beton: manifest_path(beton).write_text("{"), "expected a manifest"),
        (lambda beton: manifest_path(beton).write_text("[]"), "expected a manifest"),
        (edit(format=99), "format 99"),
        (edit(samples="many"), "samples is 'many'"),
        (edit(classes="0123456789"), "classes must be a list"),
        (edit(classes=["a"] * (2**20 + 1)), "classes must have up to 1,048,576 entries"),
        (edit(mean=[0.1]), "mean is"),
        (edit(std=[0.1, float("nan"), 0.1]), "std is"),
        (edit(samples=0), "samples is 0"),
        (edit(max_width=65536), "max_width is 65536"),
        (lambda beton: manifest_path(beton).write_text(99999 * "["), "expected a manifest"),
        (edit(surprise=1), "surprise"),
        (forget("digest"), "digest"),
    ],
)
def test_what_does_not_match_is_refused(
    beton: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(beton)
    with pytest.raises(InputError, match=words):
        read_manifest(beton)


def test_a_manifest_that_nobody_could_read_is_not_begun() -> None:
    check_fits([str(number) for number in range(100_000)])
    with pytest.raises(InputError, match="found 400,000 classes"):
        check_fits([str(number) for number in range(400_000)])


def test_one_changed_byte_is_found(beton: Path) -> None:
    with open(beton, "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    read_manifest(beton)  # the size has not changed
    with pytest.raises(InputError, match="expected SHA-256"):
        verify(beton)
