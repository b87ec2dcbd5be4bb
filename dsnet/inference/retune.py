"""A model directory set to another budget: what it spends where nobody asks for one."""

import logging
from collections.abc import Mapping
from pathlib import Path

from dsnet.inference.export import export, fingerprint, missing_extra
from dsnet.io import weights
from dsnet.io.files import write_sums
from dsnet.models.network import DSNet
from dsnet.routing.target import Target
from dsnet.routing.tuned import at_budget
from dsnet.runtime.session import ONNX

logger = logging.getLogger(__name__)


def retune(
    directory: Path,
    budget: Target | float | str,
    source: Mapping[str, str] | None = None,
) -> DSNet:
    """Rewrite a model directory, in place, so that by itself it spends `budget` on average.

    The gate that was trained nearest to the budget is put in, with its price; the others stay there
    for other budgets. Its ONNX file is written anew, or taken out, with a warning, where the
    `export` extra is missing. source: where the model comes from, kept in model.json.
    Returns the model. Raises InputError as `dsnet.load`; the directory may then be half written, so
    it should be one that nobody else sees yet.
    """
    before, gates = weights.load(directory), weights.load_gates(directory)
    model = at_budget(before, gates, budget)
    weights.write(model, directory, gates, source)
    file = directory / ONNX
    if file.is_file() and _state(model) != _state(before):
        if missing := missing_extra():
            file.unlink()
            logger.warning(
                "%s is left out: it was made for another budget than %s, and making it anew needs "
                "%s, which is not installed: pip install 'dsnet[export]'",
                ONNX,
                budget,
                missing,
            )
        else:
            export(model, file)
    write_sums(directory)
    return model


def _state(model: DSNet) -> tuple[str, float]:
    """All that decides what its ONNX file computes, the default price included."""
    return fingerprint(model), model.metadata.price
