"""Export: a model as one ONNX file that runs in plain ONNX Runtime, checked after it is written."""

import hashlib
import importlib.util
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from dsnet.errors import InputError
from dsnet.files import atomic_file, write_sums
from dsnet.inference.fold import device_of, fold
from dsnet.inference.images import normalize
from dsnet.inference.onnx_backend import OnnxBackend
from dsnet.inference.onnx_graph import build
from dsnet.models.network import DSNet
from dsnet.models.width import Width
from dsnet.nn.gate import pick
from dsnet.runtime.session import DESCRIPTION, ONNX

logger = logging.getLogger(__name__)

FINGERPRINT = "dsnet.fingerprint"
OPSETS = range(17, 24)
TOLERANCE = 1e-3
HALF_TOLERANCE = 3e-2  # half precision keeps eleven bits of a weight


def export(
    model: DSNet,
    path: str | Path,
    *,
    width: int | Width | None = None,
    opset: int = OPSETS[0],
    float16: bool = False,
    check: bool = True,
) -> Path:
    """Write `model`, which is in eval mode whatever its flag says, as one ONNX file.

    Inputs: `images`, uint8 (N, R, R, 3) with R the model's resolution, and `price`, float (), what
    multiply-adds cost in units of the gates' logits. `price` may be left out: the file then spends
    what the model was tuned to (`metadata.price`); 0 is the plain argmax of the logits, which
    spends more than that. The slimming heads' weights may be given too, see `onnx_graph.build`.
    Outputs: `logits`, float (N, classes), and `widths`, int64 (N,). With
    `width` the file holds that sub-network alone, with no gate and no price.

    Its metadata property `dsnet.description` is JSON: what turns a budget into a price (the curve
    `metadata.prices`, `madds` of every sub-network, `routes` that the gates may pick), class names
    and the architecture. docs/inference.md shows how with NumPy alone.

    float16: store weights in half precision; they are computed with in single. check: load the
    file, run it on random images and compare it with the model.
    Raises InputError for an opset that is not supported, for more than 64 joint paths, without the
    onnx package, and where the check needs onnxruntime and there is none.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, found a folder")
    with atomic_file(path) as temporary:
        temporary.write_bytes(to_bytes(model, width=width, opset=opset, float16=float16))
        if check:
            compare(
                model, temporary, width=width, tolerance=HALF_TOLERANCE if float16 else TOLERANCE
            )
    return path


def write_onnx(model: DSNet, directory: str | Path) -> Path | None:
    """Add the ONNX file to a model directory and renew its checksums.

    Without the `export` extra, or for a network without gates, the directory stays as it is and
    the answer is None.
    """
    missing = missing_extra()
    if missing or not model.architecture.gates:
        reason = f"without {missing}" if missing else "the network has no gate"
        logger.info("no %s in %s: %s", ONNX, directory, reason)
        return None
    path = export(model, Path(directory, ONNX))
    write_sums(Path(directory))
    return path


def missing_extra() -> str | None:
    """The first package of the `export` extra that is not installed; None where all are."""
    names = ("onnx", "onnxruntime")
    return next((name for name in names if importlib.util.find_spec(name) is None), None)


def to_bytes(
    model: DSNet,
    *,
    width: int | Width | None = None,
    opset: int = OPSETS[0],
    float16: bool = False,
) -> bytes:
    """What `export` writes."""
    if opset not in OPSETS:
        raise InputError(f"opset: expected {OPSETS[0]} to {OPSETS[-1]}, found {opset}")
    proto = build(fold(model, width), opset, float16, model.metadata.price)
    description = {
        "task": model.task.name,
        "architecture": model.architecture.to_dict(),
        "metadata": asdict(model.metadata),
        "madds": [model.madds(index) for index in range(len(model.space))],
        "routes": model.space.routes,
    }
    for key, value in (
        (FINGERPRINT, fingerprint(model)),
        (DESCRIPTION, json.dumps(description)),
    ):
        proto.metadata_props.add(key=key, value=value)
    content: bytes = proto.SerializeToString()
    return content


def fingerprint(model: DSNet) -> str:
    """SHA-256 of all that decides what a file computes at a price: weights, routes, normalisation.

    Not of its default price, which whoever gives one does without.
    """
    digest = hashlib.sha256()
    metadata = model.metadata
    rest = (metadata.mean, metadata.std, metadata.resolution)
    digest.update(json.dumps([model.architecture.to_dict(), rest], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def compare(
    model: DSNet,
    path: Path,
    *,
    width: int | Width | None = None,
    tolerance: float = TOLERANCE,
    batches: tuple[int, ...] = (0, 1, 5),
) -> None:
    """Run an exported file and the model on random images; raise RuntimeError if they differ.

    Logits may differ by `tolerance` times the largest logit or one, whichever is more. A choice
    may come out the other way only if such a difference in the gate's feature decides it.
    """
    backend = OnnxBackend(path, threads=1)
    training = model.training
    model.eval()
    try:
        for images, price in _random(model, batches):
            logits, widths = backend(images, price)
            price = model.metadata.price if price is None else price
            x = normalize(images, model.metadata.mean, model.metadata.std)
            x = x.to(device_of(model))
            if width is None:
                _compare_routes(model, x, price, widths, tolerance)
            for chosen in widths.unique().tolist():
                rows = widths == chosen
                expected = model(x[rows], width=chosen if width is None else width).cpu()
                error = float((logits[rows] - expected).abs().max())
                if not error <= tolerance * max(1.0, float(expected.abs().max())):
                    raise RuntimeError(f"the exported file's logits differ by {error:.2g}")
    finally:
        model.train(training)


def _compare_routes(
    model: DSNet, x: Tensor, price: float, widths: Tensor, tolerance: float
) -> None:
    if not len(x):
        return
    for row in (model.route(x, price).cpu() != widths).nonzero()[:, 0].tolist():
        wanted, clear = _decide(model, x[row : row + 1], price, tolerance)
        if clear:
            raise RuntimeError(
                f"the exported file sends an image to width {int(widths[row])}, "
                f"the model to {wanted}"
            )


def _random(model: DSNet, batches: tuple[int, ...]) -> Iterator[tuple[Tensor, float | None]]:
    """Images and prices: contrasts of all kinds; no price, 0, and two that lead to either end."""
    generator = torch.Generator().manual_seed(0)
    size = model.metadata.resolution
    for count in batches:
        noise = torch.randint(0, 256, (count, size, size, 3), generator=generator)
        dim = torch.linspace(0.1, 1, count)[:, None, None, None]
        images = (noise * dim).to(torch.uint8)
        for price in (None, 0.0, 1e4, -1e4):
            yield images, price


def _decide(model: DSNet, image: Tensor, price: float, noise: float) -> tuple[int, bool]:
    """The width that the gates pick for one image (1, 3, H, W), and whether it is a clear choice.

    It is if no gate picks otherwise when each value of its feature moves by `noise` of itself.
    """
    path: tuple[int, ...] = ()
    clear = True
    x = image
    generator = torch.Generator(image.device).manual_seed(0)
    for gate, cost, entries in zip(
        model.gates, model.gate_costs(image.device), model.space.choices, strict=True
    ):
        x, reduced = model.segment(len(path), x, model.space.along(path))
        assert reduced is not None
        moves = torch.randn(64, *reduced.shape[1:], generator=generator, device=image.device)
        moves[0] = 0
        choices = pick(gate.logits(reduced * (1 + noise * moves)) - price * cost)
        clear &= bool((choices == choices[0]).all())
        path += (entries[int(choices[0])],)
    return model.space.index_of(path), clear
