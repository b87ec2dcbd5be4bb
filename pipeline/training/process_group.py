"""torch.distributed among the workers of a Ray Train run, which alone import PyTorch for it.

Ray Train's `TorchConfig` sets up the same. But its module imports PyTorch, and the controller reads
it before it starts a worker: seconds that everything else waits for.
"""

import gc
import importlib
import socket
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import ray.train
import ray.util
from ray.train.backend import Backend, BackendConfig

# What the workers' first task needs, imported while the others still start.
_WORKER = "pipeline.training.ray_worker"
_TIMEOUT = timedelta(minutes=30)  # of a collective; Ray Train's own


class ProcessGroup(BackendConfig):
    """For a trainer's `backend_config`: gloo, or NCCL where every worker has a GPU."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What sets it up."""
        return _Backend

    @property
    def train_func_context(self) -> Any:
        """What the workers' function runs in."""
        return _on_device


class _Backend(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        gpus = worker_group.get_resources_per_worker().get("GPU", 0)
        # First, so that rank 0's port is not free for long.
        worker_group.execute(_import)
        address = worker_group.execute_single(0, _free_address)
        worker_group.execute(_join, "nccl" if gpus > 0 else "gloo", f"tcp://{address}")

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        worker_group.execute(_leave)


# On the workers ----------------------------------------------------------------------------------


def _import() -> None:
    """Import without the collector: of a million objects that stay it would find none to free."""
    gc.disable()
    importlib.import_module(_WORKER)
    gc.freeze()
    gc.enable()


def _free_address() -> str:
    """HOST:PORT where rank 0 can be reached."""
    host = ray.util.get_node_ip_address()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _join(backend: str, address: str) -> None:
    import torch.distributed as dist

    context = ray.train.get_context()
    dist.init_process_group(
        backend,
        init_method=address,
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        timeout=_TIMEOUT,
    )


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _on_device() -> AbstractContextManager[Any]:
    """This worker's GPU, where it has one, is its thread's."""
    import torch
    from ray.train.torch import get_device

    return torch.cuda.device(get_device()) if torch.cuda.is_available() else nullcontext()
