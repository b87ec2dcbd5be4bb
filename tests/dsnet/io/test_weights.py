"""A model directory: what is saved comes back, and what is damaged is refused, nothing executed."""

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import dsnet
from dsnet import DSNet, InputError, Metadata
from dsnet.io.files import write_sums
from dsnet.io.weights import load_gates
from dsnet.routing.tuned import TunedGate

Build = Callable[..., DSNet]


@pytest.fixture
def directory(build: Build, tmp_path: Path) -> Path:
    model = build("mbnet with one gate", routes=((0, 2),)).float()
    return dsnet.save(model, tmp_path / "model")


def test_a_saved_network_comes_back_as_it_was(
    network: DSNet, images: Tensor, tmp_path: Path
) -> None:
    model, images = network.float(), images.float()
    model.metadata = dataclasses.replace(
        model.metadata,
        classes=("ä", "b", "c", "d", "e"),
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        prices=((0.0, 2e5), (1.5, 1e5)),
    )
    found = dsnet.load(dsnet.save(model, tmp_path / "model"))
    assert found.architecture == model.architecture
    assert found.metadata == model.metadata
    assert not found.training
    assert found.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    for width in (0, model.space.largest):
        assert torch.equal(found(images, width=width), model(images, width=width))


def test_the_folder_holds_tensors_json_and_checksums_and_nothing_else(directory: Path) -> None:
    assert sorted(path.name for path in directory.iterdir()) == [
        "SHA256SUMS",
        "model.json",
        "weights.safetensors",
    ]
    json.loads((directory / "model.json").read_text())
    assert not any(b"pickle" in path.read_bytes() for path in directory.iterdir())


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_checksums_are_in_the_format_of_sha256sum(directory: Path) -> None:
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=directory,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def test_saving_replaces_what_was_there_whole(directory: Path, build: Build) -> None:
    (directory / "left-over").write_text("old")
    dsnet.save(build("resnet without gates").float(), directory)
    assert dsnet.load(directory).architecture.name == "resnet_0"
    assert not (directory / "left-over").exists()
    assert [path.name for path in directory.parent.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_the_old_model(directory: Path, build: Build) -> None:
    model = build("resnet without gates").float()
    object.__setattr__(model.metadata, "classes", (object(),))  # nothing that JSON could say
    with pytest.raises(TypeError):
        dsnet.save(model, directory)
    assert dsnet.load(directory).architecture.name == "mbnet_1"
    assert [path.name for path in directory.parent.iterdir()] == ["model"]


def test_nothing_but_a_model_is_replaced(directory: Path, tmp_path: Path) -> None:
    model = dsnet.load(directory)
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("precious")
    for place in ("file", "folder"):
        with pytest.raises(InputError, match=f"{place}: expected a model directory to replace"):
            dsnet.save(model, tmp_path / place)
    assert (tmp_path / "file").read_text() == "precious"
    assert (tmp_path / "folder" / "file").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    dsnet.load(dsnet.save(model, tmp_path / "empty"))


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
@pytest.mark.parametrize("damage", ["one bit", "cut short", "longer"])
def test_a_damaged_file_is_refused_by_name(directory: Path, name: str, damage: str) -> None:
    path = directory / name
    data = bytearray(path.read_bytes())
    if damage == "one bit":
        data[len(data) // 2] ^= 1
    path.write_bytes({"cut short": data[:-1], "longer": data + b" "}.get(damage, data))
    with pytest.raises(InputError, match=f"{name} does not match SHA256SUMS"):
        dsnet.load(directory)


@pytest.mark.parametrize("name", ["SHA256SUMS", "weights.safetensors", "model.json"])
def test_a_missing_file_is_refused_by_name(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(InputError, match=f"not a model directory: it has no {name}"):
        dsnet.load(directory)


@pytest.mark.parametrize("sums", ["", "nonsense", "\n\n", "0  model.json\n0  weights.safetensors"])
def test_checksums_that_make_no_sense_are_refused(directory: Path, sums: str) -> None:
    (directory / "SHA256SUMS").write_text(sums)
    with pytest.raises(InputError, match="does not match SHA256SUMS"):
        dsnet.load(directory)


def rewrite(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change model.json, checksums and all: a model of someone else's making."""
    path = directory / "model.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))
    write_sums(directory)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d["architecture"].update(colour="blue"), r"unknown fields \['colour'\]"),
        (lambda d: d["architecture"].pop("stem"), "'stem'"),
        (lambda d: d["architecture"].update(family="vgg"), "family must be one of"),
        (lambda d: d["metadata"].update(colour="blue"), "metadata is not readable: .*'colour'"),
        (lambda d: d.update(format=99), "has format 99, this reads 1"),
        (lambda d: d.pop("format"), "is not a model description"),
        (lambda d: d.pop("metadata"), "is not a model description"),
        (lambda d: d.update(metadata=[1]), "is not a model description"),
        (lambda d: d.update(architecture="small"), "is not a model description"),
        (lambda d: d["architecture"].update(num_classes=6), "does not fit its model.json"),
        (lambda d: d["architecture"]["stages"].pop(), "does not fit its model.json"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(
    directory: Path, change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    rewrite(directory, change)
    with pytest.raises(InputError, match=problem):
        dsnet.load(directory)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{", bytes([0xFF, 0xFE, 0x00])])
def test_a_description_that_is_none_is_refused(directory: Path, content: bytes) -> None:
    (directory / "model.json").write_bytes(content)
    write_sums(directory)
    with pytest.raises(InputError, match=r"model\.json is not a model description"):
        dsnet.load(directory)


def test_a_pickle_in_the_place_of_the_weights_is_refused_unread(directory: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return exec, ("raise SystemExit('the pickle ran')",)

    torch.save({"weights": Trap()}, directory / "weights.safetensors")
    write_sums(directory)
    with pytest.raises(InputError, match="is not a safetensors file"):
        dsnet.load(directory)


# Nothing that is not finite ----------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
SPOILT = [
    ("classifier.weight", NAN, "finite values, found 1 of 100 that are not, the first nan"),
    ("classifier.bias", INF, "finite values, found 1 of 5"),
    ("stem.bn.running_mean", -INF, "finite values, found 1 of"),
    ("stem.bn.running_var", NAN, "finite values of 0 or more, found 1 of"),
    ("stem.bn.running_var", -0.5, "finite values of 0 or more, found 1 of .* the first -0.5"),
    ("stages.1.0.gate.slimming.weight", NAN, "finite values, found 1 of"),
]


@pytest.mark.parametrize(("name", "value", "problem"), SPOILT)
def test_a_tensor_that_is_not_finite_is_not_saved(
    directory: Path, name: str, value: float, problem: str
) -> None:
    model = dsnet.load(directory)
    before = {path: path.read_bytes() for path in directory.iterdir()}
    model.state_dict()[name].view(-1)[0] = value
    with pytest.raises(InputError, match=f"{name} in the model to save: expected {problem}"):
        dsnet.save(model, directory)
    assert {path: path.read_bytes() for path in directory.iterdir()} == before
    assert list(directory.parent.iterdir()) == [directory]


@pytest.mark.parametrize(("name", "value", "problem"), SPOILT)
def test_a_tensor_that_is_not_finite_is_not_loaded(
    directory: Path, name: str, value: float, problem: str
) -> None:
    state = load_file(directory / "weights.safetensors")
    state[name].view(-1)[0] = value
    save_file(state, directory / "weights.safetensors")
    write_sums(directory)
    with pytest.raises(InputError, match=rf"{name} in .*weights\.safetensors: expected {problem}"):
        dsnet.load(directory)


def test_gates_that_are_not_finite_are_neither_saved_nor_loaded(
    directory: Path, tmp_path: Path
) -> None:
    model = dsnet.load(directory)
    (head,) = (gate.slimming for gate in model.gates)
    assert head is not None
    gates = [TunedGate((head,), 1e5, 0.5, ((0.0, 2e5), (1.5, 1e5)))]
    folder = dsnet.save(model, tmp_path / "gates", gates)
    heads = load_file(folder / "gates.safetensors")
    heads["0.0.weight"][0, 0] = NAN
    save_file(heads, folder / "gates.safetensors")
    with pytest.raises(InputError, match=r"0\.0\.weight in .*gates\.safetensors: expected finite"):
        load_gates(folder)
    with torch.no_grad():
        gates[0].heads[0].weight[0, 0] = INF  # type: ignore[index]
    with pytest.raises(InputError, match=r"0\.0\.weight in the gates to save: expected finite"):
        dsnet.save(dsnet.load(directory), folder, gates)


NUMBERS = [
    ("mean", (0.5, NAN, 0.5), "finite numbers, found nan"),
    ("std", (0.2, 0.0, 0.2), "finite numbers above 0, found 0.0"),
    ("std", (0.2, 0.2, -0.1), "finite numbers above 0, found -0.1"),
    ("std", (INF, 0.2, 0.2), "finite numbers above 0, found inf"),
    ("crop", 0.0, "finite numbers above 0, found 0.0"),
    ("price", INF, "finite numbers, found inf"),
    ("prices", ((0.0, 2e5), (NAN, 1e5)), "finite numbers, found nan"),
    ("prices", ((0.0, -INF),), "finite numbers, found -inf"),
]


@pytest.mark.parametrize(("field", "value", "problem"), NUMBERS)
def test_metadata_that_are_no_numbers_are_refused_by_name(
    field: str, value: Any, problem: str
) -> None:
    with pytest.raises(InputError, match=rf"metadata\.{field}: expected {problem}"):
        Metadata(**{field: value})


@pytest.mark.parametrize("field", ["target", "price", "prices"])
def test_a_tuned_gate_has_finite_numbers(field: str) -> None:
    facts: dict[str, Any] = {"target": 1e5, "price": 0.5, "prices": ((0.0, 2e5),)}
    facts[field] = ((0.0, NAN),) if field == "prices" else NAN
    with pytest.raises(InputError, match=rf"gates\.{field}: expected finite numbers, found nan"):
        TunedGate((), **facts)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("NaN", r"model\.json is not a model description.*NaN is no number"),
        ("-Infinity", r"model\.json is not a model description.*-Infinity is no number"),
        ("1e999", r"model\.json: metadata\.price: expected finite numbers, found inf"),
        ('"0"', r"model\.json: metadata\.price: expected finite numbers, found '0'"),
    ],
)
def test_a_description_with_a_number_that_is_none_is_refused(
    directory: Path, value: str, problem: str
) -> None:
    path = directory / "model.json"
    text = path.read_text()
    assert '"price": 0.0' in text
    path.write_text(text.replace('"price": 0.0', f'"price": {value}'))
    write_sums(directory)
    with pytest.raises(InputError, match=problem):
        dsnet.load(directory)
