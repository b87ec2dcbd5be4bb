"""A model made ready to be served: its files, and what the front has to know. No Ray."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsnet.errors import InputError
from dsnet.io.description import GATES, MODEL
from dsnet.routing.target import Target, parse_target
from dsnet.runtime.exported import Exported
from dsnet.runtime.session import ONNX
from pipeline.predict.model import open_directory
from pipeline.predict.serve.policy import Goal


@dataclass(frozen=True)
class About:
    """
    model: as it was named. classes: names; outputs: how many classes there are. madds: of each
    sub-network; routes: those that the gate may pick. budget: multiply-adds to spend; None for as
    the model was tuned, which is `average`. unspendable: why no budget can be met; None where any
    can.
    """

    model: str
    classes: tuple[str, ...]
    outputs: int
    madds: tuple[int, ...]
    routes: tuple[int, ...]
    resolution: int
    crop: float
    budget: float | None
    average: float
    unspendable: str | None
    replicas: int
    goal: Goal | None

    def route_madds(self) -> list[int]:
        """Multiply-adds of the sub-networks that the gate may pick."""
        return [self.madds[route] for route in self.routes]


@dataclass(frozen=True)
class Prepared:
    """files: what a replica needs of the model directory, by name."""

    files: dict[str, bytes]
    about: About


def prepare(
    model: str,
    *,
    budget: Target | str | None = None,
    replicas: int | None = None,
    p99: float | None = None,
    least: Target | str | None = None,
) -> Prepared:
    """model, budget: as `pipeline.predict.model.open_model`, to be served.

    replicas: processes that run the network, a core each; None for all of the machine's but one.
    p99: seconds to hold by a lower budget under load; None to leave the budget. least: the lowest
    that it may fall to; None for the slimmest for every image.
    Raises InputError for a model that cannot be served so, and for budgets out of range.
    """
    with open_directory(model, budget) as (directory, budget):
        files = _files(directory)
    with tempfile.TemporaryDirectory(prefix="dsnet-serve-") as folder:
        runner = exported(files, folder)
        count = max(1, (os.cpu_count() or 1) - 1) if replicas is None else replicas
        return Prepared(files, _about(model, runner, budget, count, p99, least))


def exported(files: dict[str, bytes], folder: str | Path, threads: int | None = None) -> Exported:
    """The model in the files of its directory, by name, which are written to `folder`."""
    for name, content in files.items():
        Path(folder, name).write_bytes(content)
    return Exported(Path(folder), threads)


def _files(directory: Path) -> dict[str, bytes]:
    """What a replica needs of a model directory; the ONNX file is made where there is none."""
    files = {
        name: (directory / name).read_bytes()
        for name in (MODEL, GATES, ONNX)
        if (directory / name).is_file()
    }
    if ONNX not in files:
        from dsnet.inference.export import to_bytes
        from dsnet.io import weights

        files[ONNX] = to_bytes(weights.load(directory))
    return files


def _about(
    model: str,
    runner: Exported,
    budget: Target | str | None,
    replicas: int,
    p99: float | None,
    least: Target | str | None,
) -> About:
    if runner.task != "classification":
        raise InputError(f"{model}: expected a model that classifies, found one for {runner.task}")
    unspendable, side = _unspendable(runner), runner.metadata["resolution"]
    if unspendable and (budget is not None or p99 is not None):
        raise InputError(f"{model}: {unspendable}")
    routes = [runner.madds[route] for route in runner.routes]
    spend = None if budget is None else _madds("--budget", budget, routes)
    average = spend or runner.average or float(max(routes))
    goal = None
    if p99 is not None:
        lowest = float(min(routes)) if least is None else _madds("--budget-min", least, routes)
        if lowest > average:
            raise InputError(
                f"--budget-min: expected at most the budget, {average:,.0f} multiply-adds, "
                f"found {lowest:,.0f}"
            )
        goal = Goal(p99, average, lowest)
    return About(
        model=model,
        classes=tuple(runner.metadata["classes"]),
        outputs=runner(np.zeros((1, side, side, 3), np.uint8))[0].shape[1],
        madds=tuple(runner.madds),
        routes=tuple(runner.routes),
        resolution=side,
        crop=runner.metadata["crop"],
        budget=spend,
        average=average,
        unspendable=unspendable,
        replicas=replicas,
        goal=goal,
    )


def _madds(flag: str, budget: Target | str, routes: list[int]) -> float:
    try:
        return parse_target(budget).madds(routes)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from None


def _unspendable(runner: Exported) -> str | None:
    """Why some budget of the range cannot be met; None where all can."""
    side = runner.metadata["resolution"]
    nothing = np.zeros((0, side, side, 3), np.uint8)
    madds = [runner.madds[route] for route in runner.routes]
    low, high = min(madds), max(madds)
    try:
        for step in range(9):  # budgets lie nearest to one gate or another
            runner(nothing, Target(count=low + (high - low) * step // 8))
    except InputError as error:
        return str(error)
    return None
