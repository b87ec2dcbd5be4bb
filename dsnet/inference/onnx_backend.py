"""A folded network in ONNX Runtime, tensors in and out."""

from pathlib import Path

import torch
from torch import Tensor

from dsnet.models.second_look import Routed
from dsnet.runtime.session import Session


class OnnxBackend:
    """Runs an exported file, or the bytes of one.

    threads: of each operator; None: one per core.
    """

    def __init__(self, model: Path | bytes, device: str = "cpu", threads: int | None = None):
        opened = Session(model, device, threads)
        self._opened, self.session = opened, opened.session
        self.metadata, self.priced = opened.metadata, opened.priced

    def __call__(self, images: Tensor, price: float | None = None) -> Routed:
        """images: uint8 (N, size, size, 3) -> what is answered, on the CPU.

        price: None for the file's own default.
        """
        return Routed(*map(torch.from_numpy, self._opened(images.cpu().numpy(), price)))
