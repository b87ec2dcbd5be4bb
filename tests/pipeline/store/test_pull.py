"""dsnet pull by a target's alias: a folder that runs at the target, says so, and stays as it is."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

import dsnet
from dsnet import DSNet, Metadata, Predictor
from dsnet.inference.export import write_onnx
from dsnet.io.weights import load_gates, verify
from dsnet.nn.gate import make_head
from dsnet.routing.budget import calibrate_prices, price_for
from dsnet.routing.tuned import TunedGate, fitted, put_heads
from jobs import cli
from pipeline.predict.model import open_model
from pipeline.store import registry, tracking
from tests import forked
from tests.embedded_store import embedded_store

SHARES = {"target-30pct": 0.3, "target-50pct": 0.5, "target-80pct": 0.8}
TAGS = {"fingerprint": "f", "parent": "", "dataset_digest": "d", "code_version": "c"}


def pictures(seed: int, count: int = 400) -> Tensor:
    """Pictures of one kind: noise of all brightnesses and contrasts, uint8 (count, 8, 8, 3)."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(count, 1, 1, 3, generator=generator)
    contrast = torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.rand(count, 8, 8, 3, generator=generator) - 0.5
    return ((level + contrast * noise).clamp(0, 1) * 255).to(torch.uint8)


def widest(model: DSNet) -> int:
    return model.madds(model.space.routes[-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with one version that has a gate for each of SHARES, tuned to the middle one."""
    folder = tmp_path_factory.mktemp("home")
    with embedded_store(folder):
        tracking.configure()
        torch.manual_seed(0)
        metadata = Metadata(resolution=8, classes=tuple("0123456789"))
        model = dsnet.create_model("ds_mbnet_digits", metadata=metadata).eval()
        supernet = dsnet.save(model, folder / "supernet")
        gates = list(tuned_gates(model))
        trained = fitted(model, gates[1])
        directory = dsnet.save(trained, folder / "model", gates)
        write_onnx(trained, directory)
        for name, source, aliases in (
            ("digits", directory, ["champion", *SHARES]),
            ("digits-supernet", supernet, []),
        ):
            registry.register(
                name,
                source,
                stage="gate",
                run_id=None,
                tags=TAGS,
                metrics={"top1": 0.9, "average_madds": 1.0},
                aliases=aliases,
            )
        yield folder


def tuned_gates(model: DSNet) -> Iterator[TunedGate]:
    """Random heads in which no route is ahead on average, priced to each of SHARES."""
    x = dsnet.normalize(pictures(0), model.metadata.mean, model.metadata.std)
    with torch.no_grad():
        _, feature = model.segment(0, x, model.space[0])
    assert feature is not None
    mean = feature.mean(0)
    for seed, share in enumerate(SHARES.values()):
        head = make_head(feature.shape[1], len(model.space))
        weight = torch.randn(4, len(mean), generator=torch.Generator().manual_seed(seed))
        weight -= torch.outer(weight @ mean, mean) / (mean @ mean)
        weight /= (feature @ weight.T).std()
        assert isinstance(head, torch.nn.Linear)
        head.weight.data = weight
        head.requires_grad_(False)
        priced = DSNet(model.architecture, model.metadata).eval()
        priced.load_state_dict(model.state_dict())
        put_heads(priced, [head])
        prices = calibrate_prices(priced, [x])
        priced.metadata = replace(priced.metadata, prices=prices)
        yield TunedGate((head,), share * widest(model), price_for(priced, share), prices)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_target_pulled_runs_at_that_target_in_torch_and_in_the_file(
    home: Path, tmp_path: Path
) -> None:
    images = pictures(1)
    for alias, share in SHARES.items():
        uri = f"models:/digits@{alias}"
        folder = registry.pull(uri, tmp_path / alias)
        verify(folder)
        model = dsnet.load(folder)
        x = dsnet.normalize(images, model.metadata.mean, model.metadata.std)
        widths = model.route(x)
        madds = torch.tensor([float(model.madds(width)) for width in model.space])
        # 400 pictures like those that the prices come from.
        assert float(madds[widths].mean()) / widest(model) == pytest.approx(share, abs=0.03)
        assert torch.equal(widths, open_model(uri).route(x))
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        assert session.run(["widths"], {"images": images.numpy()})[0].tolist() == widths.tolist()
        predictor = Predictor(folder, backend="onnxruntime")
        assert torch.equal(predictor(images)[1], widths)
        facts = json.loads((folder / "model.json").read_text())
        assert facts["runs_at"]["gates_trained"] is True
        assert facts["runs_at"]["share"] == pytest.approx(share, abs=0.005)
        assert facts["runs_at"]["average_madds"] == facts["runs_at"]["share"] * widest(model)
        version = registry.resolve(uri)
        assert facts["source"] == {
            "version": "models:/digits/1",
            "content": version.tags["content"],
            "target": str(share),
        }


def test_a_pulled_target_still_serves_every_other_budget(home: Path, tmp_path: Path) -> None:
    images = pictures(1)
    slim = registry.pull("models:/digits@target-30pct", tmp_path / "slim")
    whole = registry.pull("models:/digits/1", tmp_path / "whole")
    assert len(load_gates(slim)) == len(SHARES)
    for budget in (0.4, 0.5, 0.8):
        there = dsnet.load(slim, budget=budget)
        x = dsnet.normalize(images, there.metadata.mean, there.metadata.std)
        assert torch.equal(there.route(x), dsnet.load(whole, budget=budget).route(x))
        for backend in ("torch", "onnxruntime"):
            predictor = Predictor(slim, budget, backend)  # type: ignore[arg-type]
            assert torch.equal(predictor(images)[1], there.route(x))


def test_a_version_is_pulled_byte_for_byte(home: Path, tmp_path: Path) -> None:
    for uri in ("models:/digits/1", "models:/digits@champion", "models:/digits"):
        assert content(registry.pull(uri, tmp_path / "pulled")) == content(home / "model")


def test_pulling_a_target_again_does_nothing_and_another_replaces_it(
    home: Path, tmp_path: Path
) -> None:
    place = tmp_path / "pulled"
    slim, wide = "models:/digits@target-30pct", "models:/digits@target-80pct"
    inode = registry.pull(slim, place).stat().st_ino
    before = content(place)
    assert registry.pull(slim, place).stat().st_ino == inode
    registry.pull(wide, place)
    assert content(place) != before
    registry.pull("models:/digits/1", place)
    assert content(place) == content(home / "model")
    registry.pull(slim, place)
    assert dsnet.load(place).metadata == dsnet.load(registry.pull(slim, tmp_path / "b")).metadata
    (place / "weights.safetensors").write_bytes(b"damaged")
    registry.pull(slim, place)
    verify(place)


def test_without_the_extra_a_file_of_another_target_is_left_out_and_added_later(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "pulled"
    with monkeypatch.context() as patch:
        for module in ("dsnet.inference.retune", "pipeline.store.registry"):
            patch.setattr(f"{module}.missing_extra", lambda: "onnx")
        registry.pull("models:/digits@target-30pct", place)
        assert "model.onnx is left out" in caplog.text
        assert not (place / "model.onnx").exists()
        verify(place)
        inode = place.stat().st_ino
        assert registry.pull("models:/digits@target-30pct", place).stat().st_ino == inode
        # What runs at the target already needs no new file.
        registry.pull("models:/digits@target-50pct", tmp_path / "same")
        assert (tmp_path / "same" / "model.onnx").is_file()
    registry.pull("models:/digits@target-30pct", place)
    assert (place / "model.onnx").is_file()


def test_the_command_says_what_the_folder_runs_at(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for uri, said in (
        ("models:/digits@target-30pct", "(30."),
        ("models:/digits@target-80pct", "(80."),
        ("models:/digits", "(50."),
        ("models:/digits-supernet", "gates that are not trained: it runs at 298,064"),
    ):
        assert cli.run(["pull", uri, str(tmp_path / "pulled")]) == 0
        out, err = capsys.readouterr()
        assert out == f"{tmp_path / 'pulled'}\n"
        assert said in err and len(err.splitlines()) == 1


def test_an_exported_target_runs_at_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = pictures(1).numpy()
    for alias in SHARES:
        uri, path = f"models:/digits@{alias}", tmp_path / f"{alias}.onnx"
        assert cli.run(["export", uri, str(path)]) == 0
        (widths,) = onnxruntime.InferenceSession(path).run(["widths"], {"images": images})
        assert np.array_equal(widths, Predictor(open_model(uri))(images)[1].numpy())


def pulled(_: int, model: Path, plain: Path, target: Path) -> None:
    """Registered and pulled by one whose files its group alone may read."""
    os.umask(0o027)
    tracking.configure()
    registry.register(
        "modes",
        model,
        stage="gate",
        run_id=None,
        tags=TAGS,
        metrics={"top1": 0.9, "average_madds": 1.0},
        aliases=["target-30pct"],
    )
    registry.pull("models:/modes/1", plain)
    registry.pull("models:/modes@target-30pct", target)


def test_pulled_and_stored_files_are_as_readable_as_the_umask_allows(
    home: Path, tmp_path: Path
) -> None:
    forked.run(pulled, home / "model", tmp_path / "plain", tmp_path / "target")
    for folder in (tmp_path / "plain", tmp_path / "target"):
        assert folder.stat().st_mode & 0o777 == 0o750
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
        assert len(modes) == 5 and set(modes.values()) == {0o640}, modes
    stored = Path(registry.resolve("models:/modes/1").source.removeprefix("file://"))
    assert all(path.stat().st_mode & 0o040 for path in stored.iterdir())
