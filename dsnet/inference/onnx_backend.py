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
        options.log_severity_level = 3  # of a default it warns that it is not a constant
        source = model if isinstance(model, bytes) else str(model)
        self.session: Any = runtime.InferenceSession(
            source, options, providers=PROVIDERS[device.split(":")[0]]
        )
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        # Files of before the price had a default list it among what has to be fed.
        inputs = [*self.session.get_inputs(), *self.session.get_overridable_initializers()]
        self.priced = any(value.name == PRICE for value in inputs)

    def __call__(self, images: Tensor, price: float | None = None) -> tuple[Tensor, Tensor]:
        """images: uint8 (N, size, size, 3) -> logits (N, classes), widths int64 (N,), on CPU.

        price: None for the file's own default.
        """
        feed = {IMAGES: images.cpu().numpy()}
        if self.priced and price is not None:
            feed[PRICE] = np.array(price, np.float32)
        logits, widths = self.session.run([LOGITS, WIDTHS], feed)
        return torch.from_numpy(logits), torch.from_numpy(widths)
