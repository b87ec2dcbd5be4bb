"""The report: one HTML page with everything in it, drawn from the results of a sweep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from dsnet.io.files import atomic_file
from dsnet.tasks.measure import Measure
from pipeline.report.chart import STYLE, Drawing, short
from pipeline.report.frontier import best_static, line_of, random_routing
from pipeline.report.images import Images
from pipeline.report.plot import gains as gains_plot
from pipeline.report.plot import pareto
from pipeline.report.results import CASCADE, GATE, ORACLE, Results, Row
from pipeline.report.words import Words, sentence

_HERE = Path(__file__).parent
_CLASSES_SHOWN = 24
_OFF_TARGET = Measure("off_target", "off target", share=True, digits=1)


@dataclass(frozen=True)
class Gain:
    """A gate's value minus that of what it is compared with, at equal multiply-adds."""

    static: float
    random: float
    cascade: float | None
    """None without a routing table, as for the oracle."""
    oracle: float | None
    static_stderr: float | None
    """Standard error of the paired difference over images; None where it is not known."""
    random_stderr: float | None


@dataclass(frozen=True)
class Tile:
    """One figure at the top of the page."""

    figure: str
    text: str
    detail: str
    unsure: bool = False
    """It could be chance, and is not printed large."""


@dataclass(frozen=True)
class Bar:
    """One row of stacked shares: counts, their sum, and the share of each path."""

    label: str
    total: int
    shares: tuple[float, ...]


def write_page(results: Results, path: Path) -> None:
    """Write the report of a sweep."""
    write_html(render(results), path)


def write_html(page: str, path: Path) -> None:
    """Write a page, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(results: Results) -> str:
    """The page as HTML. It loads nothing from anywhere, and its policy forbids it to."""
    images, chosen = results.images, results.chosen
    gains = [gain(results, row) for row in chosen]
    return render_template(
        "page.html",
        about=results.about,
        headline=results.headline,
        others=results.task.measures[1:],
        words=Words.of(results.headline),
        chosen=chosen,
        gains=gains,
        tiles=tiles(results, gains),
        trials=[row for row in results.rows if row.kind == GATE],
        paths=len(results.about.paths),
        kinds={row.kind for row in results.rows},
        plot=twice(pareto(results, (1000, 440)), pareto(results, (380, 380))),
        above=twice(gains_plot(results, (1000, 260)), gains_plot(results, (380, 280))),
        shown=first_shown(images, chosen),
        images=images,
        by_class=[class_bars(images, counts) for counts in images.by_class],
        by_confidence=[confidence_bars(images, counts) for counts in images.by_confidence],
        script=(_HERE / "script.js").read_text(),
    )


def render_template(name: str, **values: Any) -> str:
    """A page of this folder, with the style that all have."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "short": short,
        "ramp": ramp,
        "off_target": _OFF_TARGET.difference,
        "sentence": sentence,
    }
    style = STYLE.read_text() + (_HERE / "style.css").read_text()
    return environment.get_template(name).render(style=style, **values)


def twice(wide: Drawing, narrow: Drawing) -> str:
    """A drawing for wide windows and the same for narrow ones, of which style.css shows one."""
    return (
        f'<div class="plot wide">{wide.inline()}</div>'
        f'<div class="plot narrow">{narrow.inline()}</div>'
    )


def gain(results: Results, row: Row) -> Gain:
    """How a gate's value differs from what it is compared with."""
    madds, value, headline = row.madds or 0.0, row.value or 0.0, results.headline

    def over(kind: str) -> float | None:
        line = results.of_kind(kind)
        return value - headline.of_error(line_of(line, headline).at(madds)) if line else None

    return Gain(
        static=value - headline.of_error(best_static(results).at(madds)),
        random=value - random_routing(results, row),
        cascade=over(CASCADE),
        oracle=over(ORACLE),
        static_stderr=row.static_stderr,
        random_stderr=row.stderr,
    )


def tiles(results: Results, gains: Sequence[Gain]) -> list[Tile]:
    """The sweep in four figures; none if no gate was trained."""
    if not gains:
        return []
    difference, words = results.headline.difference, Words.of(results.headline)

    def tile(values: list[float], text: str, errors: Sequence[float | None] = ()) -> Tile:
        mean = sum(values) / len(values)
        span = f"{difference(min(values))} to {difference(max(values))} by target"
        known = [error for error in errors if error is not None]
        # Targets share their images, so the mean of all is hardly surer than one of them.
        unsure = bool(known) and abs(mean) < 2 * sum(known) / len(known)
        if unsure:
            span += ": within two standard errors of nothing"
        return Tile(difference(mean), text, span, unsure)

    # A gate that serves every target has a row for each.
    trials = len({(r.label, str(r.config)) for r in results.rows if r.kind == GATE})
    oracle = [g.oracle for g in gains if g.oracle is not None]
    found = [
        tile(
            [g.static for g in gains],
            f"{words.steps_of} {words.over} the best static width at equal cost",
            [g.static_stderr for g in gains],
        ),
        tile(
            [g.random for g in gains],
            f"{words.steps} {words.over} random routing with the same shares",
            [g.random_stderr for g in gains],
        ),
    ]
    if oracle:
        found.append(tile(oracle, f"{words.steps} to the oracle, the best that any gate could do"))
    took, of = f"{results.about.seconds:.0f} s", f"{trials} trials, {len(gains)} targets"
    return [*found, Tile(took, "for the whole sweep", of)]


def first_shown(images: Images, chosen: Sequence[Row]) -> int:
    """The target whose images go the most ways (greatest entropy): the one to show first."""

    def entropy(row: Row) -> float:
        return -sum(share * math.log(share) for share in row.routes if share)

    names = [row.target for row in sorted(chosen, key=entropy, reverse=True)]
    return next((images.targets.index(name) for name in names if name in images.targets), 0)


def class_bars(images: Images, counts: Sequence[Sequence[int]]) -> list[Bar]:
    """A bar for each class, those that take slim paths first; of many, the two ends."""
    bars = [_bar(name, row) for name, row in zip(images.classes, counts, strict=True) if sum(row)]
    bars.sort(key=lambda bar: sum(path * share for path, share in enumerate(bar.shares)))
    half = _CLASSES_SHOWN // 2
    return bars if len(bars) <= _CLASSES_SHOWN else bars[:half] + bars[-half:]


def confidence_bars(images: Images, counts: Sequence[Sequence[int]]) -> list[Bar]:
    """A bar for each tenth of the images, the surest first."""
    names = [f"{low * 100:.0f} to {high:.0%}" for low, high in images.confidence]
    return [_bar(name, row) for name, row in zip(names, counts, strict=True)][::-1]


def ramp(path: int, paths: int) -> str:
    """Where a path lies between slimmest and widest, 0% to 100%, for the page's colours."""
    return f"{path / max(paths - 1, 1):.0%}"


def _bar(label: str, counts: Sequence[int]) -> Bar:
    total = sum(counts)
    return Bar(label, total, tuple(count / total for count in counts) if total else ())
