"""What the gates do with each test image: its routes, and a few pictures to look at."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dsnet.routing import RoutingTable, log_probabilities

EXAMPLES = 12
_BINS = 10
_JPEG_FROM = 64  # pixels; a smaller picture is smaller as PNG, and sharper


@dataclass(frozen=True)
class Picture:
    """One image: uri, `data:image/…`; its class, and the path it takes at each target."""

    uri: str
    label: str
    routes: tuple[int, ...]
    right: tuple[bool, ...]


@dataclass(frozen=True)
class Images:
    """Routes of the test images at each chosen target.

    classes: names. targets: as they were asked for. by_class: how many images of each class take
    each path, at each target: (targets, classes, P). by_confidence: the same for ten equal groups
    of images, from those that the slimmest path is least sure of to those it is surest of, with
    `confidence` the least and the greatest probability in each.
    easy, hard: the images that the gate would soonest send down the slimmest and the widest path.
    """

    classes: tuple[str, ...]
    targets: tuple[str, ...]
    by_class: tuple[tuple[tuple[int, ...], ...], ...]
    by_confidence: tuple[tuple[tuple[int, ...], ...], ...]
    confidence: tuple[tuple[float, float], ...]
    easy: tuple[Picture, ...] = ()
    hard: tuple[Picture, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = {**vars(self)}
        plain["easy"] = [vars(picture) for picture in self.easy]
        plain["hard"] = [vars(picture) for picture in self.hard]
        return plain

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Images":
        """The inverse of `to_dict`."""
        values: dict[str, Any] = {key: _tuples(value) for key, value in data.items()}
        for side in ("easy", "hard"):
            values[side] = tuple(
                Picture(p["uri"], p["label"], tuple(p["routes"]), tuple(p["right"]))
                for p in data[side]
            )
        return cls(**values)


def image_rows(
    table: RoutingTable,
    classes: Sequence[str],
    targets: Sequence[str],
    choices: Sequence[Tensor],
    logits: Sequence[Tensor],
    pictures: Callable[[np.ndarray], np.ndarray],
) -> Images:
    """What is shown of the test images.

    table: theirs, one row for each. choices: for each target, the path of each image, int64 (N,).
    logits: the gate's, as `dsnet.routing.gate_logits` gives them, to rank images by. pictures: from
    image numbers (n,) to their pixels, uint8 (n, H, W, 3).
    """
    paths = len(table.paths)
    order = table.confidences[:, 0].float().argsort()
    groups = [group for group in order.tensor_split(_BINS) if len(group)]
    group_of = torch.empty(len(table), dtype=torch.int64)
    for index, group in enumerate(groups):
        group_of[group] = index
    surest = [table.confidences[group, 0].float() for group in groups]

    def counted(keys: Tensor, rows: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
        counts = [
            torch.bincount(keys * paths + choice, minlength=rows * paths).reshape(rows, paths)
            for choice in choices
        ]
        return tuple(tuple(tuple(row) for row in count.tolist()) for count in counts)

    joint = log_probabilities(logits, table.paths, 0.0)
    hardness = joint[:, -1] - joint[:, 0]

    def shown(rows: list[int]) -> tuple[Picture, ...]:
        pixels = pictures(table.samples[rows].numpy())
        return tuple(
            Picture(
                _data_uri(picture),
                classes[int(table.labels[row])],
                tuple(int(choice[row]) for choice in choices),
                tuple(bool(table.top1[row, choice[row]]) for choice in choices),
            )
            for row, picture in zip(rows, pixels, strict=True)
        )

    return Images(
        classes=tuple(classes),
        targets=tuple(targets),
        by_class=counted(table.labels, len(classes)),
        by_confidence=counted(group_of, len(groups)),
        confidence=tuple((float(group.min()), float(group.max())) for group in surest),
        easy=shown(_first_of_classes(hardness.argsort(), table.labels)),
        hard=shown(_first_of_classes(hardness.argsort(descending=True), table.labels)),
    )


def _first_of_classes(order: Tensor, labels: Tensor) -> list[int]:
    """The first rows of an order, at most one of each class: twelve zeros would say little."""
    rows: list[int] = []
    seen: set[int] = set()
    for row in order.tolist():
        label = int(labels[row])
        if label not in seen:
            seen.add(label)
            rows.append(row)
        if len(rows) == EXAMPLES:
            break
    return rows


def _data_uri(pixels: np.ndarray) -> str:
    """uint8 (H, W, 3) -> a picture that needs no file beside the page."""
    kind = "JPEG" if min(pixels.shape[:2]) >= _JPEG_FROM else "PNG"
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
