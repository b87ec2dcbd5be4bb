"""Export: a model as one ONNX file that runs in plain ONNX Runtime, checked after it is written."""

import hashlib
import importlib.util
import json
import logging
from dataclasses import asdict
from pathlib import Path

from dsnet.errors import InputError
from dsnet.inference.compare import TOLERANCE, compare
from dsnet.inference.fold import fold
from dsnet.inference.onnx_graph import build
from dsnet.inference.reach import surroundings
from dsnet.io.files import atomic_file, write_sums
from dsnet.models.network import DSNet
from dsnet.models.width import Width
from dsnet.runtime.session import DESCRIPTION, ONNX

logger = logging.getLogger(__name__)

FINGERPRINT = "dsnet.fingerprint"
OPSETS = range(17, 24)
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
    Outputs: `logits`, float (N, classes), `widths`, int64 (N,), and `madds`, int64 (N,), the
    multiply-adds of all that ran for each image. A network whose outputs are pictures takes images
    of any size, (N, H, W, 3), and has `pictures`, float (N, 3, H, W), in place of logits; how tiles
    of large ones are cut is in the description's `pictures`. With `width` the file holds that
    sub-network alone, with no gate and no price.

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
        "metadata": model.metadata.to_dict(),
        "madds": [model.madds(index) for index in range(len(model.space))],
        "routes": model.space.routes,
    }
    if (around := surroundings(model)) is not None:
        description["pictures"] = asdict(around)
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
