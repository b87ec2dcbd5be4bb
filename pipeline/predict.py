"""Image files in, classes out: each at the width that the model's gate picks for it."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dsnet
from dsnet import DSNet, InputError, Metadata
from dsnet.inference.predictor import Predictor
from dsnet.routing.target import Target
from dsnet.runtime.pictures import read_picture
from dsnet.runtime.pixels import prepare
from pipeline.cluster.progress import Progress

logger = logging.getLogger(__name__)

BATCH = 64  # images per forward: enough to share the work, little enough to hold in memory


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image."""

    path: str
    label: int
    """Position in the model's classes."""
    name: str | None
    """Name of the class; None where the model knows no names."""
    confidence: float
    """Softmax probability of the class."""
    width: int
    """Sub-network that the gate picked, an index into the model's routing space."""
    madds: int
    """Multiply-adds of that sub-network."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON: path, label, class, confidence, width, madds."""
        return {
            "path": self.path,
            "label": self.label,
            "class": self.name,
            "confidence": self.confidence,
            "width": self.width,
            "madds": self.madds,
        }


def open_model(model: str, budget: Target | str | None = None) -> DSNet:
    """The model at a `models:/` URI or in a model directory, in eval mode.

    budget: average multiply-adds for it to spend, as `dsnet.load` reads it; None: the target that
    the URI's alias names, else what the model was tuned to. Raises InputError if it is not
    registered, if the folder does not hold a whole model, and for a budget out of range. Warns of a
    model whose gates are not trained: it runs at its widest for every image.
    """
    opened = _open(model, budget)
    if opened.architecture.gates and not opened.gates_trained:
        logger.warning(
            "%s has gates that are not trained (it is a supernet): every image runs at width %d, "
            "the widest that they could pick",
            model,
            opened.space.routes[-1],
        )
    return opened


def _open(model: str, budget: Target | str | None) -> DSNet:
    if not model.startswith("models:"):
        return dsnet.load(model, budget=budget)
    from pipeline.store import aliases, registry, tracking  # MLflow takes seconds to import

    tracking.configure()
    with tempfile.TemporaryDirectory(prefix="dsnet-") as folder:
        directory = registry.pull(registry.resolve(model).uri, Path(folder, "model"))
        return dsnet.load(directory, budget=budget or aliases.alias_target(model))


def predict(model: DSNet, paths: Sequence[str | Path]) -> list[Prediction]:
    """Classify image files, in order.

    Raises InputError, before anything is computed, if a file is not an image.
    """
    predictor = Predictor(model)
    inputs = [read_input(Path(path), model.metadata) for path in paths]
    logits, widths = [], []
    with Progress("predict", len(inputs), "images") as progress:
        for start in range(0, len(inputs), BATCH):
            pixels = torch.from_numpy(np.stack(inputs[start : start + BATCH]))
            batch_logits, batch_widths = predictor(pixels)
            logits.append(batch_logits)
            widths.append(batch_widths)
            progress.update(start + len(pixels))
    all_logits = torch.cat(logits)
    labels = all_logits.argmax(1)  # of logits: close ones become equal probabilities
    confidences = all_logits.softmax(1).gather(1, labels[:, None])[:, 0]
    names = model.metadata.classes
    return [
        Prediction(
            str(path), label, names[label] if names else None, confidence, width, model.madds(width)
        )
        for path, label, confidence, width in zip(
            paths, labels.tolist(), confidences.tolist(), torch.cat(widths).tolist(), strict=True
        )
    ]


def read_input(path: Path, metadata: Metadata) -> np.ndarray:
    """An image file as the model takes it before normalising: uint8 (R, R, 3).

    The middle square of the picture, resized by area, as the loader does in evaluation. Raises
    InputError if the file is not an image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path}: expected an image file: {reason}") from None
    picture = read_picture(data, str(path))
    return prepare(picture[None], metadata.resolution, metadata.crop)[0]
