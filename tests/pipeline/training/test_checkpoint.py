"""A checkpoint counts where every file is as it was written; a training goes on from the newest."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dsnet.errors import DiskFullError
from dsnet.io.files import write_sums
from pipeline.training.checkpoint import (
    CheckpointReport,
    best_whole,
    newest_whole,
    next_folder,
    remove_old,
    seal,
)
from pipeline.training.checkpoint_writer import CheckpointWriter


def make(run: Path, number: int, *, final: bool = False, best: float | None = None) -> Path:
    """A sealed checkpoint with a nested model folder, as the stages write them."""
    folder = run / f"checkpoint_{number:06}"
    (folder / "model").mkdir(parents=True)
    for name in ("model/weights.safetensors", "model/SHA256SUMS", "optimizer.safetensors"):
        (folder / name).write_bytes(bytes([number % 256]) * 1000)
    history = [{"epoch": done} for done in range(min(number, 9) + 1)]
    seal(folder, CheckpointReport({"epoch": number}, history, final, best), run)
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
    history = [{"epoch": epoch} for epoch in range(3)]
    assert (found.folder, found.report) == (folder, CheckpointReport({"epoch": 2}, history, True))


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


def test_one_of_another_stage_or_fingerprint_is_passed_over_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, others = tmp_path / "digits-gate-0123456789ab", tmp_path / "digits-gate-ba9876543210"
    older = make(ours, 1)
    foreign = make(others, 2, best=1.0).rename(ours / "checkpoint_000002")
    for found in (newest_whole(ours), best_whole(make(ours, 3, best=0.5).parent)):
        assert found is not None and found.folder != foreign
    assert str(foreign) in caplog.text
    assert f"it is of {others.name!r}, and this stage's are of {ours.name}" in caplog.text
    assert newest_whole(ours) is not None and older.is_dir()


@pytest.mark.parametrize("report", ["[]", '{"files": [], "metrics": {}, "later": 1}', "[" * 5000])
def test_one_whose_report_is_none_is_passed_over(report: str, tmp_path: Path) -> None:
    older, newer = make(tmp_path, 1), make(tmp_path, 2)
    (newer / "report.json").write_text(report)
    write_sums(newer)
    found = newest_whole(tmp_path)
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


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    scores = [0.5, 0.9, 0.9, None, 0.7]
    folders = [make(tmp_path, number, best=best) for number, best in enumerate(scores)]
    remove_old(tmp_path)
    assert sorted(tmp_path.iterdir()) == [folders[1], *folders[-2:]]
    best = best_whole(tmp_path)
    assert best is not None and best.folder == folders[1]


def test_of_checkpoints_that_were_not_evaluated_none_is_best(tmp_path: Path) -> None:
    make(tmp_path, 1)
    assert best_whole(tmp_path) is None


def test_numbers_go_on_from_the_newest(tmp_path: Path) -> None:
    assert next_folder(tmp_path).name == "checkpoint_000001"
    make(tmp_path, 999_999)
    assert next_folder(tmp_path).name == "checkpoint_1000000"
    newest = make(tmp_path, 1_000_000)
    found = newest_whole(tmp_path)
    assert found is not None and found.folder == newest


def test_one_is_written_while_the_training_goes_on_and_what_fails_is_raised_by_the_next(
    tmp_path: Path,
) -> None:
    may_go_on = threading.Event()

    def slowly(folder: Path) -> None:
        may_go_on.wait()
        (folder / "weights").write_bytes(b"1")

    def fail(folder: Path) -> None:
        (folder / "weights").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    writer = CheckpointWriter(tmp_path)
    writer.write(slowly, CheckpointReport({"epoch": 1}))
    assert newest_whole(tmp_path) is None
    may_go_on.set()
    writer.write(fail, CheckpointReport({"epoch": 2}))
    with pytest.raises(DiskFullError, match="its disk is full"):
        writer.wait()
    found = newest_whole(tmp_path)
    assert found is not None and found.report.metrics == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [found.folder]
    writer.close()


def test_a_final_one_is_there_when_write_returns_or_has_raised_what_went_wrong(
    tmp_path: Path,
) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    writer = CheckpointWriter(tmp_path)
    with pytest.raises(DiskFullError, match="its disk is full"):
        writer.write(fail, CheckpointReport({"epoch": 1}, final=True))
    writer.write(
        lambda folder: (folder / "weights").write_bytes(b"1"),
        CheckpointReport({"epoch": 1}, final=True),
    )
    found = newest_whole(tmp_path)
    assert found is not None and found.report.final
    writer.close()


def test_what_a_killed_writer_left_half_written_goes_with_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".checkpoint_000001.abcd"
    left.mkdir()
    writer = CheckpointWriter(tmp_path)
    writer.write(lambda folder: (folder / "weights").write_bytes(b"1"), CheckpointReport({}))
    writer.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_000001"]
    writer.close()
