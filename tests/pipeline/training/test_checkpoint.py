"""A checkpoint counts where every file is as it was written; a training goes on from the newest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.training.checkpoint import newest_whole, remove_old, seal


def make(run: Path, number: int, *, final: bool = False) -> Path:
    """A sealed checkpoint with a nested model folder, as the stages write them."""
    folder = run / f"checkpoint_2026-01-01_00-00-0{number}.0"
    (folder / "model").mkdir(parents=True)
    for name in ("model/weights.safetensors", "model/SHA256SUMS", "optimizer.safetensors"):
        (folder / name).write_bytes(bytes([number]) * 1000)
    seal(folder, {"epoch": number}, final=final)
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def drop_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


FILES = (
    "model/weights.safetensors",
    "model/SHA256SUMS",
    "optimizer.safetensors",
    "report.json",
    "SHA256SUMS",
)


def test_the_newest_is_read_with_what_was_reported_with_it(tmp_path: Path) -> None:
    make(tmp_path, 1)
    folder = make(tmp_path, 2, final=True)
    found = newest_whole(tmp_path)
    assert found is not None
    assert (found.folder, found.metrics, found.final) == (folder, {"epoch": 2}, True)


DAMAGES = [(name, damage) for name in FILES for damage in (cut, alter, Path.unlink)]
DAMAGES += [("SHA256SUMS", drop_last_line)]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_one_that_is_damaged_is_passed_over_by_name_for_the_one_before(
    name: str, damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = make(tmp_path, 1), make(tmp_path, 2)
    damage(newer / name)
    found = newest_whole(tmp_path)
    assert found is not None and found.folder == older
    (record,) = caplog.records
    assert record.levelname == "WARNING" and str(newer) in record.getMessage()


def test_none_that_is_newer_than_asked_for_is_looked_at(tmp_path: Path) -> None:
    older = make(tmp_path, 1)
    make(tmp_path, 2)
    found = newest_whole(tmp_path, until=older.name)
    assert found is not None and found.folder == older


def test_half_an_upload_is_passed_over(tmp_path: Path) -> None:
    older, newer = make(tmp_path, 1), make(tmp_path, 2)
    whole = {path: path.read_bytes() for path in newer.rglob("*") if path.is_file()}
    for left_out in whole:
        for path, content in whole.items():
            path.write_bytes(content)
        left_out.unlink()
        found = newest_whole(tmp_path)
        assert found is not None and found.folder == older


def test_where_none_is_whole_there_is_none(tmp_path: Path) -> None:
    assert newest_whole(tmp_path / "not there") is None
    alter(make(tmp_path, 1) / "report.json")
    assert newest_whole(tmp_path) is None


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    folders = [make(tmp_path, number) for number in range(5)]
    remove_old(tmp_path)
    assert sorted(tmp_path.iterdir()) == folders[-2:]
