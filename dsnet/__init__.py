"""Dynamic Slimmable Networks (arXiv 2103.13258): a network that picks its own width per image.

Names are imported when they are first used: what needs no torch (`dsnet.runtime`) works without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from dsnet import training
    from dsnet.errors import InputError
    from dsnet.inference.images import normalize
    from dsnet.inference.predictor import Predictor
    from dsnet.io.weights import load, save
    from dsnet.models.create import create_model, restricted
    from dsnet.models.metadata import Metadata
    from dsnet.models.network import DSNet
    from dsnet.models.width import RoutingSpace, Width

__all__ = [
    "DSNet",
    "InputError",
    "Metadata",
    "Predictor",
    "RoutingSpace",
    "Width",
    "create_model",
    "load",
    "normalize",
    "restricted",
    "save",
    "training",
]

_HOMES = {
    "DSNet": "models.network",
    "InputError": "errors",
    "Metadata": "models.metadata",
    "Predictor": "inference.predictor",
    "RoutingSpace": "models.width",
    "Width": "models.width",
    "create_model": "models.create",
    "load": "io.weights",
    "normalize": "inference.images",
    "restricted": "models.create",
    "save": "io.weights",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"dsnet.{_HOMES[name]}"), name)
    elif name == "__version__":
        value = _version()
    elif name == "training":
        value = importlib.import_module("dsnet.training")
    else:
        raise AttributeError(f"module 'dsnet' has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    """Of the installed package; "unknown" where this is a copy without one."""
    from importlib import metadata

    try:
        return metadata.version("dsnet")
    except metadata.PackageNotFoundError:
        return "unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
