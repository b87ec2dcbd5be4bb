"""A folded network in ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsnet.inference import import_optional
from dsnet.inference.onnx_graph import IMAGES, LOGITS, PRICE, WIDTHS

PROVIDERS = {"cuda": ["CUDAExecutionProvider"], "cpu": ["CPUExecutionProvider"]}


class OnnxBackend:
    """Runs an exported file, or the bytes of one.

    threads: of each operator; None: one per core.
    """

    def __init__(self, model: Path | bytes, device: str = "cpu", threads: int | None = None):
        runtime = import_optional("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        source = model if isinstance(model, bytes) else str(model)
        self.session: Any = runtime.InferenceSession(
            source, options, providers=PROVIDERS[device.split(":")[0]]
        )
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.priced = any(value.name == PRICE for value in self.session.get_inputs())

    def __call__(self, images: Tensor, price: float) -> tuple[Tensor, Tensor]:
        """images: uint8 (N, size, size, 3) -> logits (N, classes), widths int64 (N,), on CPU."""
        feed = {IMAGES: images.cpu().numpy()}
        if self.priced:
            feed[PRICE] = np.array(price, np.float32)
        logits, widths = self.session.run([LOGITS, WIDTHS], feed)
        return torch.from_numpy(logits), torch.from_numpy(widths)
