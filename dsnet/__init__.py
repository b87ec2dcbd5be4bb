"""Dynamic Slimmable Networks (arXiv 2103.13258): a network that picks its own width per image."""

from dsnet import training
from dsnet.create import create_model, restricted
from dsnet.errors import InputError
from dsnet.images import normalize
from dsnet.metadata import Metadata
from dsnet.network import DSNet
from dsnet.predictor import Predictor
from dsnet.weights import load, save
from dsnet.width import RoutingSpace, Width

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
