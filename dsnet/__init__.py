"""Dynamic Slimmable Networks (arXiv 2103.13258): a network that picks its own width per image."""

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
