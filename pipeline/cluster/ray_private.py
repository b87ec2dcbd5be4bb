"""Every use of Ray's private interfaces, and why no public one does. Checked with Ray 2.60.

Imported where they are used: Ray Train takes seconds, and not every process trains.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.train.v2.api.callback import RayTrainCallback
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

_ANSWERS_S = 10.0
SECONDS_TO_SAVE = 30.0
"""That workers have before they are replaced by more or fewer: Ray Train's controller waits."""


def autoscaling_limits() -> dict[str, float]:
    """The resources that the cluster may grow to, where an autoscaler says so; else nothing.

    `ray.cluster_resources()` has what is there now. Ray Data asks the same question this way.
    """
    from ray._private import state

    return dict(state.state.get_max_resources_from_cluster_config() or {})


def read_environment_again() -> None:
    """Have Ray take note of RAY_* variables that were set after it was imported.

    Its core reads them once. Ray does this where it turns token authentication on by itself, for a
    cluster that it starts; for one that is joined it does not.
    """
    from ray._raylet import Config  # type: ignore[attr-defined]  # it is compiled

    Config.initialize("")


def admits(address: str, token: str) -> bool:
    """Whether the head of a cluster, at HOST:PORT, answers one who offers that token, or "" none.

    True too where it does not answer at all. Ray's own client asks for twenty seconds, and then
    says that it cannot connect.
    """
    import grpc
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    metadata = [("authorization", f"Bearer {token}")] if token else []
    messages: Any = gcs_service_pb2  # made when they are imported
    request = messages.GetClusterIdRequest()
    with grpc.insecure_channel(address) as channel:
        head = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        try:
            head.GetClusterId(request, timeout=_ANSWERS_S, metadata=metadata)
        except grpc.RpcError as error:
            return error.code() is not grpc.StatusCode.UNAUTHENTICATED
    return True


def packaging_logger() -> str:
    """The name of the logger that says what of the uploaded folder was left out."""
    import ray._private.runtime_env.packaging as packaging

    return packaging.__name__


def authentication_logger() -> str:
    """The name of the logger that says at every start of a cluster that it will ask for a token."""
    import ray._private.authentication.authentication_token_setup as setup

    return setup.__name__


def announcing(queue: Any) -> "RayTrainCallback":
    """A callback for `RunConfig`: Ray Train's controller tells `queue` what it is about to do.

    Its handle when it starts: by `abort` of that a run ends that is in another thread than the
    driver's main one; the public way is Ctrl-C in the main thread, whose handler ends the process
    with a status that says nothing. How many workers it starts, which no public interface says
    before they are there. And, before it replaces elastic workers that are well by more or fewer,
    that they save: it would end them in the middle of a step.
    """
    import ray
    from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
    from ray.train.v2._internal.execution.controller.state import ResizingState

    class Announcing(ControllerCallback, WorkerGroupCallback):
        def after_controller_start(self, train_run_context: Any) -> None:
            ray.get(queue.announce.remote(ray.get_runtime_context().current_actor))

        def before_worker_group_start(self, worker_group_context: Any) -> None:
            ray.get(queue.gather.remote(worker_group_context.num_workers))

        def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
            if isinstance(current_state, ResizingState):
                ray.get(queue.save.remote(SECONDS_TO_SAVE))

    return Announcing()


def trainer(*args: Any, **settings: Any) -> "DataParallelTrainer":
    """A `DataParallelTrainer` without two processes that Ray Train starts besides the workers.

    One is for the data sets of Ray Data that a trainer was given, also where it was given none, as
    FFCV reads ours. The other asks the dashboard again and again whether the controller is alive,
    to give back what it held of the cluster: that goes with the driver here, which ends where its
    controller has. Each takes seconds of imports; there is no switch for either.
    """
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import (
        PlacementGroupCleanerCallback,
    )
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    without = DatasetsCallback, PlacementGroupCleanerCallback

    class Alone(DataParallelTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [each for each in callbacks if not isinstance(each, without)]

    return Alone(*args, **settings)
