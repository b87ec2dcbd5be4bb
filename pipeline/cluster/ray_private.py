"""Every use of Ray's private interfaces, with why there is no public way. Checked with Ray 2.60.

Imported where they are used: Ray Train takes seconds, and not every process trains.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

_ABORT_S = 15.0


def autoscaling_limits() -> dict[str, float]:
    """The resources that the cluster may grow to, where an autoscaler says so; else nothing.

    `ray.cluster_resources()` has what is there now. Ray Data asks the same question this way.
    """
    from ray._private import state

    return dict(state.state.get_max_resources_from_cluster_config() or {})


def report_logger() -> str:
    """The name of the logger that writes a long line for each report of each rank.

    Ray names it after its file, where LoggingConfig does not reach it.
    """
    import ray.train.v2._internal.execution.context as context

    return context.__file__


def packaging_logger() -> str:
    """The name of the logger that says what of the uploaded folder was left out."""
    import ray._private.runtime_env.packaging as packaging

    return packaging.__name__


def interruptible_trainer() -> type["TorchTrainer"]:
    """A TorchTrainer that Ctrl-C leaves by KeyboardInterrupt, its workers gone.

    Ray Train's own answers Ctrl-C by an exit whose status says nothing, and goes on answering when
    the training is over; there is no option to do without.
    """
    import ray
    from ray.train.torch import TorchTrainer

    class InterruptibleTrainer(TorchTrainer):
        _controller: Any = None

        def _register_sigint_handler(self, controller: Any) -> None:
            self._controller = controller

        def fit(self) -> Any:
            try:
                return super().fit()
            except KeyboardInterrupt:
                if self._controller is not None:
                    with suppress(ray.exceptions.RayError):  # its end is how it answers
                        ray.get(self._controller.abort.remote(), timeout=_ABORT_S)
                raise

    return InterruptibleTrainer


def checkpoint_snapshot() -> str:
    """The name of the file in a run's folder in which Ray Train lists the run's checkpoints.

    It refuses to start where that list is cut short or names one that is gone, and has no option
    to start without it.
    """
    from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

    return CHECKPOINT_MANAGER_SNAPSHOT_FILENAME
