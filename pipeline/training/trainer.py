"""One stage on Ray Train: the same loop on every worker, with checkpoints, retries and progress."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.train import TrainingFailedError, UserCallback, WorkerGroupError

# Ray Train V2's own modules: type checkers see the first version's under ray.train.
from ray.train.v2.api.config import (
    CheckpointConfig,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
)

from dsnet.errors import DivergenceError, InputError
from pipeline.cluster import progress_actor
from pipeline.cluster.ray_private import checkpoint_snapshot, interruptible_trainer
from pipeline.config import Config, stage_dir
from pipeline.store.callback import MLflowCallback
from pipeline.store.tracking import Run
from pipeline.training import checkpoint
from pipeline.training.worker import Assignment, T, Worker, on_worker


@dataclass(frozen=True)
class StageResult:
    """What a stage's loop reported last."""

    metrics: dict[str, Any]
    directory: Path
    """The folder of the final checkpoint."""


def train(
    stage: str,
    loop: Callable[[Worker, T], None],
    inputs: T,
    config: Config,
    *,
    fingerprint: str,
    run: Run,
) -> StageResult:
    """Run `loop` on `config.cluster.workers` workers and wait for its end.

    inputs: what the loop reads beside the configuration, the same for every worker; pickled.
    The run's folder is named after the stage's fingerprint: started again after a crash, the same
    stage goes on from its newest whole checkpoint.
    Raises InputError if a worker did, DivergenceError if the training came to nothing, and Ray
    Train's error for anything else.
    """
    cluster = config.cluster
    callbacks: list[UserCallback] = [MLflowCallback(run.uri, run.id)] if run.id else []
    resources = {"CPU": cluster.cpus_per_worker, "GPU": cluster.gpus_per_worker}
    folder = stage_dir(config, stage, fingerprint)
    name, storage = folder.name, folder.parent
    _forget_snapshot(storage / name)
    with progress_actor.shown(stage) as progress:
        # Bound to the function and not given as train_loop_config: Ray Train's controller reads
        # that too, and would import for it what only the workers need.
        assignment = Assignment(config, progress, storage / name)
        trainer = interruptible_trainer()(
            partial(on_worker, loop, inputs, assignment),
            scaling_config=ScalingConfig(
                num_workers=cluster.workers,
                use_gpu=cluster.gpus_per_worker > 0,
                resources_per_worker={key: n for key, n in resources.items() if n},
            ),
            run_config=RunConfig(  # type: ignore[arg-type]
                name=name,
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=cluster.max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=checkpoint.KEPT),
                callbacks=callbacks,
                logging_config=LoggingConfig(log_level="WARNING"),
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise _users_mistake(error) or error from None
        if reason := ray.get(progress.failure.remote()):
            raise DivergenceError(
                f"stage {stage}: {reason}; nothing of it is registered; lower the learning rate"
            )
    return _result(stage, storage / name)


def _forget_snapshot(run: Path) -> None:
    """Let Ray Train start without its list of an earlier start's checkpoints.

    It refuses to start where that list is cut short, or names one that is gone. Which checkpoint to
    go on from, and which are old, is read off the checkpoints themselves.
    """
    (run / checkpoint_snapshot()).unlink(missing_ok=True)


def _result(stage: str, run: Path) -> StageResult:
    """What the run's final checkpoint holds."""
    newest = checkpoint.newest_whole(run)
    if newest is None or not newest.final:
        found = f"{newest.folder.name}, which is not the last" if newest else "none"
        raise RuntimeError(
            f"stage {stage}: expected a whole final checkpoint in {run}, found {found}; run the "
            "command again, and it goes on from there"
        )
    checkpoint.remove_old(run)
    return StageResult(newest.metrics, newest.folder)


def _users_mistake(error: TrainingFailedError) -> InputError | None:
    """The InputError that made a worker fail, if one did."""
    failures = error.worker_failures.values() if isinstance(error, WorkerGroupError) else ()
    for failure in failures:
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, InputError):
                return InputError(str(cause))
            cause = getattr(cause, "cause", None) or cause.__cause__
    return None
