"""What an evaluation counted class by class, among the files and metrics of its run."""

import json
from pathlib import Path

from pipeline.report.classes import classes
from pipeline.store.tracking import Run
from pipeline.training.evaluation import BY_CLASS

PLOT = "classes.svg"
CALIBRATION_ERROR = "calibration_error"


def log_by_class(run: Run, checkpoint: Path) -> dict[str, float]:
    """Log what the final checkpoint has of it; returns what is a metric of the version.

    Nothing for a task without, nor for a checkpoint that is older than this.
    """
    file = checkpoint / BY_CLASS
    if not file.is_file():
        return {}
    run.artifact(file)
    figures = json.loads(file.read_text())
    if not all(CALIBRATION_ERROR in each for each in figures.values()):
        return {}  # a tally of another kind
    run.text(classes(figures), PLOT)
    errors = {name: each[CALIBRATION_ERROR] for name, each in figures.items()}
    run.log({CALIBRATION_ERROR: errors})
    return {CALIBRATION_ERROR: errors["dynamic"]}
