"""Which stages a chain would run, as `dsnet run` says at its start, without anything written."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import dsnet
from dsnet import DSNet
from dsnet.errors import InputError
from pipeline.config import Config
from pipeline.data.dataset import Counts, Dataset, held
from pipeline.store import address

NO_DATA = "will run: the data is not ingested yet"


@dataclass(frozen=True)
class Planned:
    """A stage, before a run."""

    stage: str
    runs: bool
    why: str
    """Why it runs, or which version was found."""


def dataset_here(config: Config) -> tuple[Dataset | None, Counts | None]:
    """The betons of a configuration where they are here already, and its data's counts if known."""
    try:
        return held(config)
    except InputError:
        return None, None  # how large it is may be stated


def planned(config: Config, dataset: Dataset | None, by_table: bool) -> list[Planned]:
    """Every stage of the chain, in order. Raises InputError for a named model that is not there.

    Without a store MLflow is not imported.
    """
    file = address.database(address.uri())
    given, named = config.gate.supernet is not None, config.supernet.from_
    if given or (named or "").startswith("models:/"):
        _refuse_without_store(file, config)
    if named is not None and not given:
        from pipeline.runner.starting_point import identified  # with it comes MLflow

        identified(named)
    if dataset is None or (file is not None and not file.exists()):
        stages = [] if given else ["supernet", "calibrate"]
        stages += [*(["table"] if by_table else []), "gate", "evaluate"]
        why = NO_DATA if dataset is None else "will run: nothing is registered yet"
        return [Planned(stage, True, why) for stage in stages]
    return _found(config, dataset)


def given_network(config: Config) -> DSNet | None:
    """The supernet that the config names, read from the registry into memory; None without one."""
    if config.gate.supernet is None:
        return None
    from pipeline.runner.supernet import gates_fit
    from pipeline.store import registry  # MLflow takes seconds

    _refuse_without_store(address.database(address.uri()), config)
    with tempfile.TemporaryDirectory() as folder:
        model = dsnet.load(registry.pull(config.gate.supernet, Path(folder, "model")))
    return gates_fit(config, config.gate.supernet, model)


def _refuse_without_store(file: Path | None, config: Config) -> None:
    if file is not None and not file.exists():
        field, named = "gate.supernet", config.gate.supernet
        if named is None:
            field, named = "supernet.from", config.supernet.from_
        raise InputError(
            f"{field} {named}: expected a registered model, found no store at {file}; "
            "DSNET_HOME or MLFLOW_TRACKING_URI says where it is"
        )


def _found(config: Config, dataset: Dataset) -> list[Planned]:
    from pipeline.runner.job import Start
    from pipeline.runner.plan import plan, worked_on  # with it comes MLflow
    from pipeline.runner.starting_point import identified
    from pipeline.runner.supernet import given_supernet
    from pipeline.stages import calibrate, supernet

    given = given_supernet(config)
    start = None
    if given is None and (named := config.supernet.from_) is not None:
        start = Start(Path(named), identified(named))
    network = given_network(config)
    specs = [supernet.SPEC, calibrate.SPEC]
    steps = plan(config, dataset, specs, given, start, network=network)
    return [
        Planned(step.stage, step.runs, step.why if step.runs else str(step))
        for step in worked_on(steps)
    ]
