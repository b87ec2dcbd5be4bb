"""An exported file in ONNX Runtime, NumPy in and out."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dsnet.errors import InputError
from dsnet.errors.checks import check_choice

ONNX = "model.onnx"  # its name in a model directory
IMAGES, PRICE = "images", "price"
LOGITS, PICTURES, WIDTHS, MADDS = "logits", "pictures", "widths", "madds"
Outputs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Logits (N, classes), or pictures (N, 3, H, W); of the sub-network that answered widths, int64
(N,); and madds, int64 (N,), the multiply-adds of all that ran."""
HEAD = "head."  # what the names of the slimming heads' weights begin with
DESCRIPTION = "dsnet.description"
PROVIDERS = {"cuda": ["CUDAExecutionProvider"], "cpu": ["CPUExecutionProvider"]}


def import_optional(name: str) -> Any:
    """`onnx` or `onnxruntime`. Raises InputError, saying how to get it, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"this needs {name}, which is not installed: pip install 'dsnet[export]'"
        ) from None


class Session:
    """Runs an exported file, or the bytes of one.

    threads: of each operator; None: one per core. metadata: the file's own, text by name.
    """

    def __init__(self, model: Path | bytes, device: str = "cpu", threads: int | None = None):
        kind = device.split(":")[0]
        check_choice("device", kind, PROVIDERS)
        runtime = import_optional("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # of a default it warns that it is not a constant
        source = model if isinstance(model, bytes) else str(model)
        self.session: Any = runtime.InferenceSession(source, options, providers=PROVIDERS[kind])
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        outputs = {value.name for value in self.session.get_outputs()}
        self._answer = PICTURES if PICTURES in outputs else LOGITS
        # ONNX Runtime lists inputs that have a default apart: the price and the slimming heads.
        inputs = [*self.session.get_inputs(), *self.session.get_overridable_initializers()]
        self.inputs = {value.name: tuple(value.shape) for value in inputs}

    @property
    def priced(self) -> bool:
        """Whether it has a choice, which a price steers."""
        return PRICE in self.inputs

    def __call__(
        self,
        images: np.ndarray,
        price: float | None = None,
        heads: Mapping[str, np.ndarray] | None = None,
    ) -> Outputs:
        """images: uint8 (N, size, size, 3), of any size for pictures -> what they are answered.

        price, heads: None for the file's own defaults; heads by input, all of them.
        """
        feed = {IMAGES: images, **(heads or {})}
        if self.priced and price is not None:
            feed[PRICE] = np.array(price, np.float32)
        outputs, widths, madds = self.session.run([self._answer, WIDTHS, MADDS], feed)
        return outputs, widths, madds
