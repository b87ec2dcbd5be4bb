"""What reads files that come from elsewhere, each as a function of a file's bytes.

Whatever the bytes are, it takes them or refuses them in one short line.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch

import dsnet
from dsnet import InputError, Metadata
from dsnet.io.files import SUMS, write_sums
from dsnet.io.weights import GATES, MODEL, WEIGHTS, load_gates
from dsnet.nn.gate import make_head
from dsnet.routing.looks import evidence_size
from dsnet.routing.tuned import TunedGate, put_heads
from pipeline.data.manifest import manifest_path, read_manifest

LONGEST_LINE = 2000


@cache
def directory() -> Path:
    """A model directory of a network that looks again, with tuned gates."""
    torch.manual_seed(0)
    metadata = Metadata(resolution=8, classes=tuple("abc"), prices=((0.0, 2e5), (1.0, 1e5)))
    model = dsnet.create_model("ds_mbnet_digits", metadata=metadata).eval()
    head = make_head(model.gates[0].features, 4, hidden=3)
    heads = (head, *(make_head(evidence_size(model), 4, hidden=2) for _ in range(3)))
    put_heads(model, heads)
    gates = [TunedGate(heads, 1.5e5, 0.5, metadata.prices)]
    return dsnet.save(model, Path(mkdtemp()) / "model", gates)


@cache
def _whole() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory().iterdir()}


def _with(name: str, content: bytes) -> None:
    """Load the model directory with another content of one file; sums fit, unless they are it."""
    for each, whole in _whole().items():
        (directory() / each).write_bytes(content if each == name else whole)
    if name != SUMS:
        write_sums(directory())
    dsnet.load(directory())
    load_gates(directory())


def model_json(content: bytes) -> None:
    _with(MODEL, content)


def sums(content: bytes) -> None:
    _with(SUMS, content)


def weights(header: bytes) -> None:
    """A header before the tensors that belong to another."""
    _with(WEIGHTS, _headed(header, _whole()[WEIGHTS]))


def gates(header: bytes) -> None:
    _with(GATES, _headed(header, _whole()[GATES]))


def _headed(header: bytes, file: bytes) -> bytes:
    return (
        len(header).to_bytes(8, "little") + header + file[8 + int.from_bytes(file[:8], "little") :]
    )


def manifest(content: bytes) -> None:
    beton = directory().with_name("a.beton")
    beton.write_bytes(bytes(8))
    manifest_path(beton).write_bytes(content)
    read_manifest(beton)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "model_json": model_json,
    "weights": weights,
    "gates": gates,
    "sums": sums,
    "manifest": manifest,
}


def seeds(target: str) -> list[bytes]:
    """Sound contents for a target, to begin with."""
    files = _whole()
    if target in ("weights", "gates"):
        file = files[f"{target}.safetensors"]
        return [file[8 : 8 + int.from_bytes(file[:8], "little")]]
    if target == "manifest":
        content: dict[str, object] = {"format": 1, "samples": 2, "size": 8, "classes": ["a", "b"]}
        content |= {"class_counts": [1, 1]}
        content |= dict.fromkeys(("digest", "source", "split", "fingerprint"), "x")
        content |= {"mean": [0, 0.5, 1], "std": [0, 0.5, 1], "max_height": 8, "max_width": 8}
        return [json.dumps(content).encode()]
    return [files[{"model_json": MODEL, "sums": SUMS}[target]]]


def check(target: str, content: bytes) -> str | None:
    """How `content` is refused; None if it is taken. Anything but a short line is an error."""
    try:
        TARGETS[target](content)
    except InputError as error:
        said = str(error)
        assert said.isprintable() and len(said) < LONGEST_LINE, f"no short line: {said[:200]!r}"
        return said
    return None
