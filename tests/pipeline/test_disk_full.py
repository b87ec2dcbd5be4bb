"""A full disk, a real one of 40 MB: one line that names the folder, and on when there is room."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import dsnet
from dsnet.errors import DiskFullError
from dsnet.io import files
from dsnet.io.files import atomic_directory, room, root_cause
from jobs import cli
from pipeline.config import Config
from pipeline.store import registry, tracking
from tests.disk import fill, small_disk

TAGS = {"fingerprint": "f", "parent": "", "dataset_digest": "d", "code_version": "c"}
METRICS = {"top1": 0.975, "average_madds": 123456.75}


def test_ingest_names_the_folder_and_what_it_needs_and_goes_on_when_there_is_room(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = disk / "digits.beton"
    ballast = fill(disk, left=4_000_000)  # half a page of a beton
    assert cli.run(["ingest", "digits", str(dest)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"dsnet: {disk}: its disk is full (") and "MB needed" in line
    assert [path.name for path in disk.iterdir()] == ["ballast"]
    ballast.unlink()
    assert cli.run(["ingest", "digits", str(dest)]) == 0


def test_a_folder_that_does_not_fit_leaves_the_one_before(disk: Path) -> None:
    with atomic_directory(disk / "model") as folder:
        (folder / "file").write_text("before")
    fill(disk, left=100_000)
    with (
        pytest.raises(DiskFullError, match=f"^{disk}: its disk is full"),
        atomic_directory(disk / "model") as folder,
    ):
        save_file({"weight": torch.zeros(100_000)}, folder / "weights.safetensors")
    assert sorted(path.name for path in disk.iterdir()) == ["ballast", "model"]
    assert (disk / "model" / "file").read_text() == "before"


def test_a_registration_that_does_not_fit_leaves_no_version_and_succeeds_when_there_is_room(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DSNET_HOME", str(disk))
    torch.manual_seed(0)
    small = dsnet.save(dsnet.create_model("ds_mbnet_digits", num_classes=10), tmp_path / "small")
    large = dsnet.save(dsnet.create_model("ds_mbnet", num_classes=1000), tmp_path / "large")

    def register(model: Path) -> registry.Version:
        with (
            tracking.chain_run(Config(name="full")) as chain,
            tracking.stage_run(chain, "gate", {"fingerprint": "f"}) as run,
        ):
            return registry.register(
                "full", model, stage="gate", run_id=run.id, tags=TAGS, metrics=METRICS
            )

    first = register(small)
    ballast = fill(disk, left=2_000_000)  # for the database, not for the weights
    with pytest.raises(DiskFullError) as caught:
        register(large)
    assert str(caught.value).startswith(f"{disk}: its disk is full (")
    assert "the same command goes on" in str(caught.value)
    assert registry.versions("full") == [first]
    ballast.unlink()
    assert register(large).version == 2


def test_a_full_disk_under_the_database_is_said_in_one_line(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DSNET_HOME", str(disk))
    tracking.configure()
    ballast = fill(disk)
    with pytest.raises(DiskFullError, match=f"^{disk}: its disk is full"):  # noqa: SIM117
        with tracking.chain_run(Config(name="full")):
            pass
    ballast.unlink()
    with tracking.chain_run(Config(name="full")) as run:
        assert run.id is not None


def test_a_workers_full_disk_is_found_in_what_wraps_it(disk: Path) -> None:
    fill(disk)
    with pytest.raises(OSError, match="No space left") as caught:
        (disk / "checkpoint").write_bytes(b"0" * 100_000)
    died = RuntimeError("a worker died")
    died.__cause__ = caught.value
    found = root_cause(died)
    assert isinstance(found, DiskFullError) and "No space left on device" in str(found)
    assert root_cause(RuntimeError("anything else")) is None
    with pytest.raises(DiskFullError, match=f"^{disk}: .*about 5.0 MB needed"):  # noqa: SIM117
        with room(disk, lambda: 5_000_000):
            (disk / "checkpoint").write_bytes(b"0" * 100_000)


def test_shared_memory_that_is_full_is_named_where_the_folder_has_room(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SHARED_MEMORY", disk)
    fill(disk)
    with (
        pytest.raises(DiskFullError, match=f"^{disk}: the shared memory is full .*{tmp_path} has"),
        room(tmp_path, lambda: 8_400_000),
    ):
        (disk / "buffer").write_bytes(b"0" * 100_000)


def test_a_disk_without_a_place_for_another_file_is_not_called_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "few", "size=40m,nr_inodes=3") as few:
        (few / "one").touch()
        (few / "two").touch()
        with pytest.raises(DiskFullError, match=f"^{few}: .*no place for another file"), room(few):
            (few / "three").touch()
