"""The model that a command names: a `models:/` URI or a model directory, opened or made to run."""

import importlib.util
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dsnet.errors import InputError
from dsnet.io.description import architecture_of, read_description, verify
from dsnet.models.width import RoutingSpace
from dsnet.routing.target import Target
from dsnet.runtime.session import ONNX

if TYPE_CHECKING:
    from dsnet import DSNet
    from dsnet.pyfunc import Runner

logger = logging.getLogger(__name__)

BACKENDS = ("torch", "onnxruntime")


def open_model(model: str, budget: Target | str | None = None) -> "DSNet":
    """The model at a `models:/` URI or in a model directory, in eval mode.

    budget: average multiply-adds for it to spend, as `dsnet.load` reads it; None: the target that
    the URI's alias names, else what the model was tuned to. Raises InputError if it is not
    registered, if the folder does not hold a whole model, and for a budget out of range. Warns of a
    model whose gates are not trained: it runs at its widest for every image.
    """
    import dsnet

    with _directory(model, budget) as (directory, budget):
        opened = dsnet.load(directory, budget=budget)
        _warn_of_untrained_gates(model, directory)
        return opened


@contextmanager
def open_runner(
    model: str, budget: Target | str | None = None, backend: str | None = None
) -> "Iterator[tuple[Runner, Target | str | None]]":
    """What runs the model, and the budget to run it at; model, budget and errors as `open_model`.

    backend: one of BACKENDS; None: ONNX Runtime where that and the model's own `model.onnx` are
    there, which starts in a fifth of the time that importing PyTorch takes, else PyTorch.
    """
    with open_directory(model, budget) as (directory, budget):
        has_file = (directory / ONNX).is_file()
        if backend is None:
            ready = has_file and importlib.util.find_spec("onnxruntime") is not None
            backend = "onnxruntime" if ready else "torch"
        if backend == "torch":
            from dsnet.pyfunc import InTorch

            yield InTorch(directory), budget
            return
        if not has_file:
            raise InputError(
                f"{directory}: expected a {ONNX} in it for the backend onnxruntime, found none; "
                "use the backend torch"
            )
        from dsnet.runtime.exported import Exported

        yield Exported(directory), budget


@contextmanager
def open_directory(
    model: str, budget: Target | str | None = None
) -> Iterator[tuple[Path, Target | str | None]]:
    """The model's directory, checked by its checksums, and the budget; errors as `open_model`."""
    with _directory(model, budget) as (directory, budget):
        verify(directory)
        _warn_of_untrained_gates(model, directory)
        yield directory, budget


@contextmanager
def _directory(
    model: str, budget: Target | str | None
) -> Iterator[tuple[Path, Target | str | None]]:
    """The model's directory, fetched for as long as this lasts if it is registered; the budget."""
    if not model.startswith("models:"):
        if not (folder := Path(model)).exists():
            near = f"; did you mean models:/{model}?" if "/" not in model else ""
            raise InputError(f"{model} is not a model directory: there is nothing{near}")
        yield folder, budget
        return
    from pipeline.store import aliases, registry, tracking  # MLflow takes seconds to import

    tracking.configure(make=False)
    with tempfile.TemporaryDirectory(prefix="dsnet-") as temporary:
        folder = registry.pull(registry.resolve(model).uri, Path(temporary, "model"))
        yield folder, budget or aliases.alias_target(model)


def _warn_of_untrained_gates(model: str, directory: Path) -> None:
    description = read_description(directory)
    if description["runs_at"].get("gates_trained") is not False:
        return
    architecture = architecture_of(description, directory)
    if architecture.gates:
        logger.warning(
            "%s has gates that are not trained (it is a supernet): every image runs at width %d, "
            "the widest that they could pick",
            model,
            RoutingSpace(architecture).routes[-1],
        )
