"""Bytes that a chain writes, and the memory that one of its workers takes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dsnet import DSNet
from pipeline.config import Config
from pipeline.runner.estimate.sizes import Sizes
from pipeline.runner.estimate.work import routes, rows_of_tables

KEPT = 3
"""Checkpoints of a stage at most: the newest two, and the best where `patience` asks for one."""
WORKER_BYTES = 700 * 10**6
"""Of a worker's process before its first step: PyTorch, Ray Train and FFCV imported."""
_FLOAT = 4


@dataclass(frozen=True)
class Storage:
    """In bytes."""

    betons: int
    checkpoints: int
    """Of stage I and calibration, which are the largest."""
    tables: int
    models: int
    """Three versions, one of them with its ONNX file, in the storage; the registry has as many."""
    memory_per_worker: int
    """Of the process, or where it trains on a GPU of that."""


def storage(config: Config, model: DSNet, sizes: Sizes, by_table: bool) -> Storage:
    """What the chain of a configuration takes."""
    parameters, state = _sizes(model)
    moments = _moments(config)
    checkpoint = checkpoint_bytes(config, model)
    kept = KEPT if config.supernet.patience else KEPT - 1
    memory = (
        WORKER_BYTES
        + 2 * state
        + (1 + moments) * parameters
        + config.supernet.batch_size * activation_bytes(model, config.data.resolution)
    )
    return Storage(
        betons=sizes.beton_bytes,
        checkpoints=kept * checkpoint + state,
        tables=rows_of_tables(config, sizes) * row_bytes(model) if by_table else 0,
        models=4 * state,
        memory_per_worker=memory,
    )


def checkpoint_bytes(config: Config, model: DSNet) -> int:
    """Of one checkpoint of stage I: student, teacher, and what the optimizer keeps."""
    parameters, state = _sizes(model)
    return 2 * state + _moments(config) * parameters


def _sizes(model: DSNet) -> tuple[int, int]:
    """Bytes of the parameters, and of parameters and statistics together."""
    parameters = sum(p.numel() for p in model.parameters()) * _FLOAT
    return parameters, parameters + sum(b.numel() for b in model.buffers()) * _FLOAT


def _moments(config: Config) -> int:
    """Numbers that the optimizer keeps for each parameter."""
    return {"sgd": 1 if config.supernet.momentum else 0, "adamw": 2}[config.supernet.optimizer]


def row_bytes(model: DSNet) -> int:
    """Of a row of a routing table, in float16: a gate's feature, and of each path what it gives.

    A path has a loss, an outcome, and evidence of a dozen numbers; Parquet takes less.
    """
    features = sum(gate.features for gate in model.gates)
    return 2 * (features + 14 * len(routes(model)))


@torch.no_grad()
def activation_bytes(model: DSNet, resolution: int) -> int:
    """Of one image: what every layer gives at the largest width, kept for the backward pass."""
    count = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        nonlocal count
        if isinstance(output, Tensor) and not list(module.children()):
            count += output.numel()

    hooks = [module.register_forward_hook(add) for module in model.modules()]
    training = model.training
    try:
        model.eval()(torch.zeros(1, 3, resolution, resolution), width=model.space.largest)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    return count * _FLOAT
