"""How a classifier goes wrong, drawn: how right its confidence is, and what it takes for what."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from pipeline.report.chart import Axis, Drawing, Point, Series, alone, chart, text
from pipeline.report.data_uri import picture_uri

Figures = Mapping[str, Mapping[str, Any]]
"""`ClassTally.figures` of every network by its name, the slimmest first."""

_SIDE = 420  # pixels of a drawing
_NAMED = 40  # classes that have room for their names and for a figure under the pointer
_LETTERS = 12  # of a name
_SHADE = (74, 134, 214)  # seen on light and on dark: a share is how much of it covers the page


def classes(figures: Figures) -> str:
    """Both drawings as an SVG file."""
    return alone(reliability(figures), confusion(figures))


def reliability(figures: Figures) -> Drawing:
    """The share that is right against confidence, for the slimmest, the widest and the gates."""
    widths = [name for name in figures if name.startswith("width ")]
    routed = [name for name in figures if name not in widths]

    def points(name: str) -> list[Point]:
        return [
            Point(
                each["confidence"],
                each["right"],
                f"{name}: of {each['images']:,} images with {each['confidence']:.1%} confidence, "
                f"{each['right']:.1%} are right",
            )
            for each in figures[name]["calibration"]
            if each["images"]
        ]

    def series(name: str, kind: str, ramp: float | None = None) -> Series:
        error = figures[name]["calibration_error"]
        title = f"{name}: calibration error {error:.1%}"
        return Series(kind, points(name), title, mark="small", ramp=ramp)

    ends = [series(widths[0], "ramp", 0.0), series(widths[-1], "ramp", 1.0)]
    return chart(
        "Share that is right against mean confidence",
        [
            Series("random", [Point(0.0, 0.0), Point(1.0, 1.0)]),
            *ends[: len(widths)],
            *(series(name, "dynamic") for name in routed),
        ],
        Axis("mean confidence", _percent, span=(0.0, 1.02)),
        Axis("", _percent, span=(0.0, 1.02)),
        (_SIDE, 360),
        legend=True,
    )


def confusion(figures: Figures) -> Drawing:
    """Of each class's images, the shares that the last network takes for each class."""
    name = [*figures][-1]
    counts = np.array(figures[name]["confusion"])
    labels = [*figures[name]["accuracy_by_class"]]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shade = np.empty((*shares.shape, 4), np.uint8)
    shade[..., :3], shade[..., 3] = _SHADE, (255 * shares).round()
    named = len(labels) <= _NAMED
    cut = [f"{label[: _LETTERS - 1]}…" if len(label) > _LETTERS else label for label in labels]
    letters = max(map(len, cut)) if named else 0
    left, side = 30 + 7 * letters, _SIDE - 44 - 7 * letters
    cell = side / len(labels)
    place = f'x="{left}" y="6" width="{side}" height="{side}"'
    marks = [
        f'<rect class="grid" fill="none" {place}/>',
        f'<image {place} preserveAspectRatio="none" href="{picture_uri(shade, exact=True)}"/>',
        text("middle", left + side / 2, side + 48 + 7 * letters, "taken for"),
        text("middle", 0, 0, "class", f'transform="translate(14 {6 + side / 2}) rotate(-90)"'),
    ]
    for row in range(len(labels) * named):
        middle = (row + 0.5) * cell
        marks.append(text("end", left - 6, 10 + middle, cut[row]))
        below = f'transform="translate({left + middle + 4:.1f} {side + 14}) rotate(-90)"'
        marks.append(text("end", 0, 0, cut[row], below))
        for column in range(len(labels)):
            if count := counts[row, column]:
                title = f"{labels[row]} taken for {labels[column]}: {count:,}, "
                marks.append(
                    f'<rect class="cell" x="{left + column * cell:.1f}" y="{6 + row * cell:.1f}" '
                    f'width="{cell:.1f}" height="{cell:.1f}">'
                    f"<title>{escape(title)}{shares[row, column]:.1%}</title></rect>"
                )
    title = f"What {name} takes for what"
    return Drawing(title, _SIDE, side + 58 + 7 * letters, "".join(marks))


def _percent(values: Sequence[float]) -> list[str]:
    return [f"{value:.0%}" for value in values]
