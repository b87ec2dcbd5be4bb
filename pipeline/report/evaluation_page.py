"""The report of a version that no sweep made: one HTML page of what it reaches on test images."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsnet import DSNet
from pipeline.report.classes import confusion, reliability
from pipeline.report.page import render_template, twice
from pipeline.report.plot import accuracy
from pipeline.report.results import GATE, STATIC, Row
from pipeline.report.words import Words
from pipeline.store.version import Version
from pipeline.training.evaluation import Evaluation, EvaluationRow

_CLASSES_SHOWN = 24


@dataclass(frozen=True)
class ClassRow:
    """What a class's images are taken for."""

    name: str
    images: int
    right: float
    """Share of them that are taken for it."""
    confused: str
    """What the others are taken for most."""


def render_evaluation(
    version: Version, model: DSNet, figures: Mapping[str, Mapping[str, Any]]
) -> str:
    """The page as HTML. It loads nothing from anywhere, and its policy forbids it to.

    version: with the tag `evaluation`. figures: what was counted class by class, by network.
    """
    found = Evaluation.from_dict(json.loads(version.tags["evaluation"]))
    rows, headline = found.rows(model), model.task.headline
    points = [_point(row) for row in rows]
    drawn = bool(figures) and all("confusion" in each for each in figures.values())
    classed = class_rows(figures[rows[-1].name]) if drawn else []
    half = _CLASSES_SHOWN // 2
    return render_template(
        "evaluation.html",
        title=f"{version.name} {version.version}: what it reaches",
        version=version,
        model=model,
        images=found.images,
        rows=rows,
        measures=model.task.measures,
        words=Words.of(headline),
        errors=[figures.get(row.name, {}).get("calibration_error") for row in rows],
        shares=[*(count / found.images for count in found.picked), None],
        plot=twice(accuracy(points, headline, (1000, 400)), accuracy(points, headline, (380, 340))),
        drawings=[reliability(figures), confusion(figures)] if drawn else [],
        classes=classed if len(classed) <= _CLASSES_SHOWN else classed[:half] + classed[-half:],
        number=len(classed),
    )


def class_rows(figures: Mapping[str, Any]) -> list[ClassRow]:
    """Every class with images, those that are most often wrong first."""
    names = [*figures["accuracy_by_class"]]
    found = []
    for index, (name, counts) in enumerate(zip(names, figures["confusion"], strict=True)):
        if not (images := sum(counts)):
            continue
        wrong = [(count, k) for k, count in enumerate(counts) if count and k != index]
        most = sorted(wrong, key=lambda pair: (-pair[0], pair[1]))[:3]
        confused = ", ".join(f"{names[k]} ({count})" for count, k in most)
        found.append(ClassRow(name, images, counts[index] / images, confused))
    return sorted(found, key=lambda row: row.right)


def _point(row: EvaluationRow) -> Row:
    dynamic = row.name == "dynamic"
    label = "as the gate chooses" if dynamic else row.name
    return Row(GATE if dynamic else STATIC, label, madds=row.madds, value=row.value, chosen=dynamic)
