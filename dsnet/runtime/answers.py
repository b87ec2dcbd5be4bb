"""From logits to what a model answers: the class, how sure, at what width and cost."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dsnet.errors import InputError


def classified(
    logits: np.ndarray,
    widths: np.ndarray,
    madds: np.ndarray,
    classes: Sequence[str],
    top_k: int = 1,
) -> dict[str, list[Any]]:
    """logits (N, classes), widths and madds, int64 (N,) -> columns of N answers.

    label, class (None where the model knows no names), confidence (softmax probability), width (an
    index into the routing space), madds (multiply-adds of all that ran). With top_k above 1
    also labels, classes, confidences: the most likely ones first. Raises InputError for a top_k out
    of range.
    """
    count = logits.shape[1]
    if not 1 <= top_k <= count:
        raise InputError(f"top_k: expected 1 to {count}, the number of classes, found {top_k}")
    # Of logits: close ones become equal probabilities. Stable: of equals the first, as argmax.
    order = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    exact = logits.astype(np.float64)
    exact = np.exp(exact - exact.max(1, keepdims=True, initial=-np.inf))
    probabilities = exact / exact.sum(1, keepdims=True)
    labels = order.tolist()
    sure = np.take_along_axis(probabilities, order, 1).tolist()
    known = dict(enumerate(classes))
    names = [[known.get(label) for label in row] for row in labels]
    columns: dict[str, list[Any]] = {
        "label": [row[0] for row in labels],
        "class": [row[0] for row in names],
        "confidence": [row[0] for row in sure],
        **spent(widths, madds),
    }
    return columns | (
        {"labels": labels, "classes": names, "confidences": sure} if top_k > 1 else {}
    )


def spent(widths: np.ndarray, madds: np.ndarray) -> dict[str, list[int]]:
    """Columns width and madds."""
    return {"width": widths.tolist(), "madds": madds.tolist()}
