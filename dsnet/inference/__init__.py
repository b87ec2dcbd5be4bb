"""The network as it is run rather than trained: folded, a branch for every width, ready to go."""

import importlib
from typing import Any

from dsnet.errors import InputError


def import_optional(name: str) -> Any:
    """`onnx` or `onnxruntime`. Raises InputError, saying how to get it, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"this needs {name}, which is not installed: pip install 'dsnet[export]'"
        ) from None
