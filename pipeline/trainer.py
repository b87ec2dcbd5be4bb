"""One stage on Ray Train: the same loop on every worker, with checkpoints, retries and progress."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ray.train import TrainingFailedError, UserCallback, WorkerGroupError
from ray.train.torch import TorchTrainer

# Ray Train V2's own modules: type checkers see the first version's under ray.train.
from ray.train.v2.api.config import (
    CheckpointConfig,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
)

from dsnet.errors import InputError
from pipeline import board
from pipeline.config import Config, storage_dir
from pipeline.mlflow_callback import MLflowCallback
from pipeline.tracking import Run
from pipeline.worker import Settings, TrainWorker, Worker

Loop = Callable[[Worker], None]

CHECKPOINTS_KEPT = 2  # the newest, and one more in case that one is cut short


@dataclass(frozen=True)
class Outcome:
    """What a stage's loop reported last."""

    metrics: dict[str, Any]
    directory: Path
    """The folder of the last checkpoint."""


def train(
    stage: str,
    loop: Loop,
    config: Config,
    settings: Settings,
    *,
    fingerprint: str,
    run: Run,
) -> Outcome:
    """Run `loop` on `config.cluster.workers` workers and wait for its end.

    The run's folder is named after the stage's fingerprint: started again after a crash, the same
    stage goes on from its last checkpoint.
    Raises InputError if a worker did, and Ray Train's error for anything else.
    """
    cluster = config.cluster
    callbacks: list[UserCallback] = [MLflowCallback(run.uri, run.id)] if run.id else []
    resources = {"CPU": cluster.cpus_per_worker, "GPU": cluster.gpus_per_worker}
    with board.shown(stage) as progress:
        trainer = TorchTrainer(
            partial(_on_worker, loop),
            train_loop_config={**settings, "config": config.as_dict(), "board": progress},
            scaling_config=ScalingConfig(
                num_workers=cluster.workers,
                use_gpu=cluster.gpus_per_worker > 0,
                resources_per_worker={key: n for key, n in resources.items() if n},
            ),
            run_config=RunConfig(  # type: ignore[arg-type]
                name=f"{config.name}-{stage}-{fingerprint[:12]}",
                storage_path=str(storage_dir(config)),
                failure_config=FailureConfig(max_failures=cluster.max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
                callbacks=callbacks,
                logging_config=LoggingConfig(log_level="WARNING"),
            ),
        )
        try:
            result = trainer.fit()
        except TrainingFailedError as error:
            raise _users_mistake(error) or error from None
    # Ray Train hands on the metrics that came with a checkpoint: every loop ends with one.
    if result.checkpoint is None or result.metrics is None:
        raise RuntimeError(f"stage {stage} ended without a checkpoint")
    return Outcome(result.metrics, Path(result.checkpoint.path))


def _on_worker(loop: Loop, settings: Settings) -> None:
    with closing(TrainWorker(settings)) as worker:
        loop(worker)


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
