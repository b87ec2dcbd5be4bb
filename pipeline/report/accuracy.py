"""What widths and gates reach against what they cost, as a drawing of one page or by itself."""

from collections.abc import Sequence
from dataclasses import replace

from dsnet.tasks.measure import Measure
from pipeline.report.plot import drawing, point_of
from pipeline.report.results import STATIC, Row
from pipeline.report.words import Words

# The colours of style.css in the light: who shows a file by itself has no page around it.
_STYLE = (
    "text{fill:#5d6470;font:13px sans-serif}.grid{stroke:#e9e9e5}"
    ".line{fill:none;stroke:#b4540a;stroke-width:2}"
    ".dot.static{fill:#fff;stroke:#b4540a;stroke-width:2}"
    ".dot.gate{fill:#1d4ed8;stroke:#fff;stroke-width:2}"
)


def accuracy(rows: Sequence[Row], headline: Measure, width: int, height: int) -> str:
    """An SVG for a page with style.css: squares are single widths, dots are gates.

    rows: static ones, the slimmest first, and chosen gates; width, height: in CSS pixels.
    """
    return drawing(
        f"{Words.of(headline).title} against average multiply-adds",
        {"static": [point_of(row) for row in rows if row.kind == STATIC]},
        rows,
        point_of,
        headline,
        lambda value, digits: replace(headline, digits=digits).text(value),
        lambda row: row.stderr,
        (width, height),
    )


def accuracy_file(rows: Sequence[Row], headline: Measure) -> str:
    """The same as an SVG that stands by itself."""
    start = "<svg "
    inner = accuracy(rows, headline, 760, 360).removeprefix(start)
    attributes, marks = inner.split(">", 1)
    return (
        f'{start}xmlns="http://www.w3.org/2000/svg" {attributes}><style>{_STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{marks}\n'
    )
