"""A folded network in ONNX Runtime, tensors in and out."""

from pathlib import Path

import torch
from torch import Tensor

from dsnet.runtime.session import Session


class OnnxBackend:
    """Runs an exported file, or the bytes of one.

    threads: of each operator; None: one per core.
    """

    def __init__(self, model: Path | bytes, device: str = "cpu", threads: int | None = None):
        opened = Session(model, device, threads)
        self._opened, self.session = opened, opened.session
        self.metadata, self.priced = opened.metadata, opened.priced

    def __call__(self, images: Tensor, price: float | None = None) -> tuple[Tensor, Tensor]:
        """images: uint8 (N, size, size, 3) -> logits (N, classes), widths int64 (N,), on CPU.

        price: None for the file's own default.
        """
        logits, widths = self._opened(images.cpu().numpy(), price)
        return torch.from_numpy(logits), torch.from_numpy(widths)
