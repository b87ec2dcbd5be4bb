"""The MLflow runs of chains and stages.

Two rules: a training never stops because of its tracking (what cannot be logged is warned about),
and a chain that could not register its result does not start (`configure` asks the store first).
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.store import environment  # noqa: F401  before MLflow

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Param, RunTag
from mlflow.entities import Run as Entity
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
)

from dsnet.errors import InputError, OutageError
from dsnet.routing.target import Target
from pipeline.cluster import driver, events
from pipeline.config import Config, storage_dir
from pipeline.store import unsent
from pipeline.store.connection import answers as answers
from pipeline.store.connection import client as client
from pipeline.store.connection import configure as configure
from pipeline.store.connection import experiment
from pipeline.store.connection import uri as uri
from pipeline.store.metric_log import MetricLog
from pipeline.store.notes import given_note, run_note
from pipeline.store.outage import ask, reason, waits
from pipeline.store.version import MODEL_ID, Version

logger = logging.getLogger(__name__)

_PARAMS_PER_CALL = 100  # MLflow's own limit
_DIGEST = 36  # characters, MLflow's too
_CHAIN = "chain"  # tag of a stage's run: the model's name, which its chain and its sweeps share
_RUN_OF = "run_of"  # tag of a chain's own run: the same name, by which the one before is found
_SHOWN = 3  # fields, in a run's name
_CONFIG = "config.yaml"  # of a chain's run
_BRIEFLY = 2.0  # seconds that a run which has failed waits for its metrics


class Run:
    """One MLflow run. Its methods warn where the store fails, and never raise for it."""

    def __init__(
        self,
        uri: str,
        name: str,
        opened: Callable[["Run"], str],
        chain: str | None = None,
        note: str = "",
    ) -> None:
        """name: as it is shown. chain: the name of the model that its stages make. note: what its
        page says above everything else."""
        self.uri, self.name, self.chain, self.note = uri, name, chain, note
        self._open = opened
        self._id: str | None = None
        self._lock = threading.Lock()
        self.metrics = MetricLog(uri, self.opened)

    def opened(self) -> str:
        """Its id; asks the store for one if it has none yet. Raises what MLflow does."""
        with self._lock:
            if self._id is None:
                self._id = self._open(self)
            return self._id

    @property
    def id(self) -> str | None:
        """Its id; None where the store was away so far, and still is."""
        try:
            return self.opened()
        except Exception as error:
            logger.warning("MLflow gave no run for %s yet: %s", self.name, reason(error))
            return None

    @property
    def known_id(self) -> str | None:
        """Its id if it has one already; the store is not asked."""
        return self._id

    def log(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Log nested metrics; what is not a finite number is left out, and so is a step again."""
        self.metrics.log(metrics, step)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        entities = [RunTag(key, value) for key, value in tags.items()]
        self._try("tags", lambda mlflow, run: mlflow.log_batch(run, tags=entities))

    def registered(self, version: Version) -> None:
        """Let the run's page lead to the version that came of it: in its note, and as its model.

        The version is its stage's, whose run is nested in this one.
        """
        what = version.headline.text(version.value)
        cost = f"{version.metrics['average_madds']:,.0f} multiply-adds on average"
        self.note += (
            f"\n\nRegistered as `{version.uri}`: {version.headline.title} {what} at {cost}."
        )
        self.tag({"registered": version.uri, MLFLOW_RUN_NOTE: self.note})
        output = LoggedModelOutput(version.tags[MODEL_ID], step=0)
        self._try("its model", lambda mlflow, run: mlflow.log_outputs(run, [output]))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or a folder's content, into `folder` of the run's artifacts."""
        if path.is_dir():
            self._try("artifacts", lambda m, run: m.log_artifacts(run, str(path), folder))
        else:
            self._try("artifacts", lambda m, run: m.log_artifact(run, str(path), folder))

    def text(self, text: str, name: str) -> None:
        """Upload `text` as a file called `name`."""
        self._try("artifacts", lambda mlflow, run: mlflow.log_text(run, text, name))

    def reads(
        self, context: str, name: str, digest: str, source: str, counts: Mapping[str, int]
    ) -> None:
        """Name a data set that the run reads; MLflow keeps the first 36 characters of a digest.

        context: what it is read for, such as "training". source: where it came from.
        """
        dataset = Dataset(
            name,
            digest[:_DIGEST],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps(dict(counts)),
        )
        read = DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])
        self._try("a data set", lambda mlflow, run: mlflow.log_inputs(run, [read]))

    def params(self, params: Mapping[str, Any]) -> None:
        """Log parameters of the run; each can be set once."""
        items = [Param(key, str(value)) for key, value in params.items()]
        for start in range(0, len(items), _PARAMS_PER_CALL):
            self._try("parameters", partial(_log_params, items[start : start + _PARAMS_PER_CALL]))

    def end(self, status: str) -> None:
        """Let what is pending arrive, and end the run.

        What did not arrive is kept in DSNET_HOME, for the driver that goes on in this run.
        """
        self.metrics.flush(waits.left() if status == "FINISHED" else _BRIEFLY)
        if self._id is not None:
            unsent.keep(self._id, self.metrics.give_up())
        self._try("the end", lambda mlflow, run: mlflow.set_terminated(run, status))

    def _try(self, what: str, call: Callable[[MlflowClient, str], object]) -> None:
        if (run := self.id) is None:
            return
        try:
            call(client(), run)
        except Exception as error:
            logger.warning("MLflow did not take %s of %s: %s", what, self.name, reason(error))


def _log_params(params: list[Param], mlflow: MlflowClient, run: str) -> None:
    mlflow.log_batch(run, params=params)


@contextmanager
def chain_run(
    config: Config, targets: Sequence[Target] = (), *, given: bool = False
) -> Iterator[Run]:
    """The parent run of a chain, or of a sweep over targets, with its configuration.

    given: of neither, but of the registration of a model that was made elsewhere.

    The configuration is its parameters and a file config.yaml. It is named after its command, the
    target, and what changed since the run before.
    Runs that drivers of this machine have left when they were killed are ended first. Raises
    InputError where the store does not answer: nothing could be registered in the end. An
    OutageError within says where the work of the chain is kept.
    """
    configure()
    note = given_note(config) if given else run_note(config, targets)
    tags = {MLFLOW_RUN_NOTE: note}
    if given:
        name = f"register {config.name}"
    elif targets:
        name = f"sweep {config.name}: {', '.join(map(str, targets))}"
        tags["targets"] = ",".join(map(str, targets))
    else:
        name = _title(config, ask(uri(), lambda: _parameters_before(client(), config.name)))
        tags[_RUN_OF] = config.name
    run = Run(uri(), name, lambda run: _made(run, tags), config.name, note)
    ask(run.uri, lambda: _end_dead(client()))
    ask(run.uri, run.opened)
    place = ask(run.uri, lambda: experiment(client()))
    events.tell("mlflow", run_id=run.opened(), experiment_id=place, uri=run.uri)
    with _ending(run):
        run.params(dict(_dotted(config.as_dict())))
        run.text(config.yaml(), _CONFIG)
        try:
            yield run
        except OutageError as error:
            raise type(error)(
                f"{error}; what was trained is kept in {storage_dir(config)}, and the same command "
                "goes on from there"
            ) from error


def _title(config: Config, before: Mapping[str, str]) -> str:
    """The target, and what changed since the run before: it distinguishes runs of one name."""
    title = f"run {config.name}"
    if config.gate.target is not None:
        title += f" at {config.gate.target}"
    changed = [
        f"{field} {value}"
        for field, value in _dotted(config.as_dict())
        if field != "gate.target" and before.get(field, str(value)) != str(value)
    ]
    more = [f"{len(changed) - _SHOWN} more"] if len(changed) > _SHOWN else []
    return f"{title}: {', '.join([*changed[:_SHOWN], *more])}" if changed else title


def _parameters_before(mlflow: MlflowClient, name: str) -> dict[str, str]:
    """Of the newest run of a chain of that name; empty without one."""
    newest = mlflow.search_runs([experiment(mlflow)], f"tags.{_RUN_OF} = '{name}'", max_results=1)
    return dict(newest[0].data.params) if newest else {}


def parameters_of(stage_run: str | None) -> dict[str, str]:
    """The configuration that a stage's run was part of, by dotted name; empty where it is gone."""
    if not stage_run:
        return {}
    try:
        parent = client().get_run(_chain_of(stage_run))
    except MlflowException as error:
        logger.warning("run %s: %s", stage_run, reason(error))
        return {}
    return dict(parent.data.params)


def configuration_of(version: Version, folder: Path) -> Path:
    """The configuration file of the chain or sweep that made a version, written into `folder`.

    Raises InputError where its run is gone, or has none.
    """
    try:
        run = ask(uri(), lambda: _chain_of(version.run_id))
        return _download(run, _CONFIG, folder)
    except (MlflowException, OSError) as error:
        raise InputError(
            f"{version.uri}: expected the configuration that made it in its MLflow run "
            f"{version.run_id}, found: {reason(error)}"
        ) from error


def _chain_of(stage_run: str) -> str:
    """The run that a stage's is part of; its own, where it is part of none."""
    return client().get_run(stage_run).data.tags.get(MLFLOW_PARENT_RUN_ID, stage_run)


def artifact_of(run: str, name: str, folder: Path) -> Path | None:
    """A file of a run, written into `folder`; None where it is gone."""
    try:
        return _download(run, name, folder)
    except (MlflowException, OSError) as error:
        logger.warning("run %s: %s", run, reason(error))
        return None


def _download(run: str, name: str, folder: Path) -> Path:
    return ask(uri(), lambda: Path(client().download_artifacts(run, name, str(folder))))


@contextmanager
def stage_run(
    parent: Run | None, name: str, tags: Mapping[str, str] | None = None, *, told: bool = True
) -> Iterator[Run]:
    """The run of one stage, nested in its chain's where there is one.

    With a tag `fingerprint` it is the one that a chain of the same name began and did not finish,
    if there is one: it goes on, and what it has is not logged twice. To be entered by one chain at
    a time. Where the store is away, the run is made when it is back. told: whether it is one of
    the stages that `dsnet jobs status` shows.
    """
    tags = dict(tags or {}, stage=name)
    if parent is not None and parent.chain is not None:
        tags[_CHAIN] = parent.chain

    def open_run(run: Run) -> str:
        if parent is not None:
            tags[MLFLOW_PARENT_RUN_ID] = parent.opened()
        return _resumed(run, tags) or _made(run, tags)

    run = Run(uri(), name, open_run)
    with _ending(run):
        if run.id is None:
            logger.warning("%s goes on, and what it logs waits for MLflow", name)
        with events.stage(name, run.id) if told else nullcontext():
            yield run


@contextmanager
def _ending(run: Run) -> Iterator[None]:
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        run.end(status)


def _made(run: Run, tags: dict[str, str]) -> str:
    mlflow = client()
    tags = {**tags, driver.TAG: driver.this_driver()}
    return str(mlflow.create_run(experiment(mlflow), tags=tags, run_name=run.name).info.run_id)


def _resumed(run: Run, tags: dict[str, str]) -> str | None:
    """The unfinished run of a stage, opened again; None if there is none."""
    if "fingerprint" not in tags or _CHAIN not in tags:
        return None
    mlflow = client()
    same = [f"tags.{tag} = '{tags[tag]}'" for tag in ("fingerprint", "stage", _CHAIN)]
    found = mlflow.search_runs(
        [experiment(mlflow)], " and ".join([*same, "attributes.status != 'FINISHED'"])
    )
    before = next((each for each in found if not _is_at_work(each)), None)
    if before is None:
        return None
    run_id = str(before.info.run_id)
    mlflow.update_run(run_id, status="RUNNING")
    changed = {MLFLOW_PARENT_RUN_ID: tags[MLFLOW_PARENT_RUN_ID], driver.TAG: driver.this_driver()}
    mlflow.log_batch(run_id, tags=[RunTag(*item) for item in changed.items()])
    last = {metric.key: int(metric.step) for metric in before.data.to_proto().metrics}
    run.metrics.resume(last, unsent.taken(run_id))
    logger.info(
        "%s: goes on in its MLflow run %s, which was %s at step %s",
        run.name,
        run_id,
        before.info.status.lower(),
        max(last.values(), default="0"),
    )
    return run_id


def _is_at_work(run: Entity) -> bool:
    """Whether somebody may still be logging to a run.

    What runs on another machine is taken to live: its driver cannot be asked from here.
    """
    return run.info.status == "RUNNING" and driver.lives(run.data.tags.get(driver.TAG, "")) is not (
        False
    )


def _end_dead(mlflow: MlflowClient) -> None:
    """End as KILLED the runs of drivers of this machine that no longer run."""
    running = mlflow.search_runs(
        [experiment(mlflow)], f"attributes.status = 'RUNNING' and tags.{driver.TAG} LIKE '%'"
    )
    dead = [run for run in running if driver.lives(run.data.tags[driver.TAG]) is False]
    for run in dead:
        mlflow.set_terminated(run.info.run_id, "KILLED")
    if dead:
        logger.info("MLflow runs of drivers that are gone, ended as KILLED: %d", len(dead))


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
