"""Predictor: images in, logits out, each image at the width that its gate picks for it."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dsnet.errors import InputError
from dsnet.inference.export import FINGERPRINT, fingerprint, to_bytes
from dsnet.inference.fold import fold
from dsnet.inference.images import check_images
from dsnet.inference.onnx_backend import OnnxBackend
from dsnet.inference.torch_backend import TorchBackend
from dsnet.io import weights
from dsnet.models.network import DSNet
from dsnet.models.second_look import Routed
from dsnet.models.width import Width
from dsnet.routing.target import Target
from dsnet.routing.tuned import at_budget
from dsnet.runtime.pixels import prepare
from dsnet.runtime.session import ONNX

# Images at a time on a CPU: enough to fill every branch, few enough for the wide early layers'
# pictures to stay in its cache.
CPU_BATCH = 16


class Predictor:
    """A model made ready to run: prefix once, gate, group by width, each group through its tail.

    model: a DSNet, which is copied and left alone, or a model directory.
    budget: average multiply-adds wanted, as a fraction of the widest (0.5) or a count ("200M");
        None for what the model was tuned to. price: instead of a budget, the price itself, 0 for
        the plain argmax of the gates' logits.
    backend: "torch" or "onnxruntime"; the latter reads the directory's model.onnx where there is
        one, and else writes the same graph in memory.
    width: run this sub-network alone, with no gate.
    device: "cpu" or "cuda". threads: of ONNX Runtime. compile: put the torch backend through
        torch.compile.

    Raises InputError for a budget out of range, a price that is no number, a model.onnx of another
    model, or a backend that is not installed.
    """

    def __init__(
        self,
        model: DSNet | str | Path,
        budget: Target | float | str | None = None,
        backend: Literal["torch", "onnxruntime"] = "torch",
        *,
        price: float | None = None,
        width: int | Width | None = None,
        device: str = "cpu",
        threads: int | None = None,
        compile: bool = False,
    ):
        _refuse_both(budget, price, width)
        if isinstance(model, DSNet):
            directory, network = None, model
        else:
            directory, network = Path(model), weights.load(model)
        stored = network
        if budget is not None:
            gates = weights.load_gates(directory) if directory else []
            network = at_budget(network, gates, budget)
        self.metadata = network.metadata
        self._head = network.head
        self.price = network.metadata.price if price is None else price
        self.device = device
        self.backend: TorchBackend | OnnxBackend
        if backend == "torch":
            self.backend = TorchBackend(fold(network, width), compile).to(device).eval()
        elif backend == "onnxruntime":
            if directory is None or width is not None or not (directory / ONNX).is_file():
                self.backend = OnnxBackend(to_bytes(network, width=width), device, threads)
            else:
                self.backend = _from_file(network, stored, directory / ONNX, device, threads)
        else:
            raise InputError(f"backend: expected torch or onnxruntime, found {backend!r}")

    def __call__(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """images: uint8 (N, H, W, 3) of any size -> logits (N, classes), widths int64 (N,).

        Pictures of the model's own resolution are taken as they are; of all others the middle is
        resized, as in evaluation. Where outputs are pictures, float (N, 3, H, W), all are taken as
        they are; for large ones there is `dsnet.runtime.tiles`. Widths are indices into the model's
        routing space, -1 for the widest of everything. Tensors on the backend's device; ONNX
        Runtime's are on the CPU.
        """
        logits, widths, _ = self.routed(images)
        return logits, widths

    def routed(self, images: Tensor | np.ndarray) -> Routed:
        """As by a call, with the multiply-adds of all that ran for each image."""
        images = torch.as_tensor(images)
        check_images(images)
        size = self.metadata.resolution
        if not self._head.factor and images.shape[1:3] != (size, size):
            pixels = prepare(images.cpu().numpy(), size, self.metadata.crop)
            images = torch.from_numpy(pixels)
        if not len(images):
            device = self.device if isinstance(self.backend, TorchBackend) else "cpu"
            nothing = torch.empty(0, dtype=torch.int64, device=device)
            outputs = self._head.shape((images.shape[1], images.shape[2]))
            return Routed(torch.empty(0, *outputs, device=device), nothing, nothing)
        if self.device != "cpu" or len(images) <= CPU_BATCH:
            routed: Routed = self.backend(images, self.price)
            return routed
        results = [self.backend(part, self.price) for part in images.split(CPU_BATCH)]
        return Routed(*(torch.cat(parts) for parts in zip(*results, strict=True)))


def _refuse_both(
    budget: Target | float | str | None, price: float | None, width: int | Width | None
) -> None:
    if sum(value is not None for value in (budget, price, width)) > 1:
        raise InputError("a budget, a price and a width exclude each other: give one of them")
    if price is not None and not math.isfinite(price):
        raise InputError(f"price: expected a finite number, found {price}")


def _from_file(
    model: DSNet, stored: DSNet, path: Path, device: str, threads: int | None
) -> OnnxBackend:
    """The exported file of `stored`; the same graph in memory if a budget put other heads in."""
    backend = OnnxBackend(path, device, threads)
    exported = backend.metadata.get(FINGERPRINT)
    if exported == fingerprint(model):
        return backend
    if exported == fingerprint(stored):
        return OnnxBackend(to_bytes(model), device, threads)
    raise InputError(
        f"{path} was exported from another model than the weights beside it: "
        "remove it or run dsnet export again"
    )
