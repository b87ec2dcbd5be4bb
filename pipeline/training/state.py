"""What a training goes on from: tensors in safetensors, the rest in JSON, no pickle."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import dsnet
from dsnet import DSNet
from dsnet.training import LossMeter

MODEL, STUDENT, OPTIMIZER, PROGRESS = (
    "model",
    "student.safetensors",
    "optimizer.safetensors",
    "progress.json",
)

Write = Callable[[Path], None]
"""Fills an existing folder with a checkpoint."""


@dataclass(frozen=True)
class BestEvaluation:
    """The best that was evaluated so far."""

    figure: float
    """The measure by which; higher is better."""
    epoch: int
    metrics: dict[str, Any]
    """What was reported of it."""


@dataclass
class Training:
    """The state of a training: what learns, what steers it, and how far it is.

    Within an epoch every rank has some of it for itself: random states, BatchNorm statistics, sums
    of losses. At an epoch's end it has none: statistics agree, and every epoch seeds its own
    numbers. Where another number of workers goes on within an epoch, they have the mean of those
    statistics, the losses of rank 0, and numbers that none has drawn before.
    """

    model: DSNet
    """What the stage will hand on, a model directory in the checkpoint (stage I: the teacher)."""
    optimizer: torch.optim.Optimizer
    student: DSNet | None = None
    """What the optimizer updates, where that is another network than `model`."""
    generator: torch.Generator | None = None
    """What the stage draws from besides torch's own generators, if it does."""
    rank: int = 0
    world_size: int = 1
    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Steps done in the epoch that comes after those."""
    lr_scale: float = 1.0
    """Factor of the schedule's learning rate: less after the training went back."""
    losses: LossMeter = field(default_factory=LossMeter)
    """Of the steps done in this epoch."""
    best: BestEvaluation | None = None
    stale: int = 0
    """Evaluations since the best one."""
    _random: dict[str, Tensor] = field(default_factory=dict)
    _others: bool = False
    """Whether another number of workers wrote what was restored within an epoch."""

    @property
    def learning(self) -> list[nn.Parameter]:
        """What the optimizer updates, in the network's order."""
        return [p for p in self._learner.parameters() if p.requires_grad]

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.model.parameters()).device

    @property
    def buffers(self) -> list[Tensor]:
        """The statistics that steps move, in the order of the network's."""
        return list(self._learner.buffers())

    def snapshot(self, gather: Callable[[bytes], list[bytes]] = lambda data: [data]) -> Write:
        """Everything as it is now, and what writes it later, from any thread.

        gather: what each rank has, by rank, on every rank. A collective, within an epoch.
        """
        # Copies: the training goes on while another thread writes.
        model = copy.deepcopy(self.model).cpu()
        student = _copies(self.student.state_dict()) if self.student is not None else None
        optimizer = _copies(_flat(self.optimizer))
        progress = {
            "epoch": self.epoch,
            "step": self.step,
            "lr_scale": self.lr_scale,
            "best": self.best and asdict(self.best),
            "stale": self.stale,
        }
        # At an epoch's end no rank has anything for itself.
        ranks = gather(safetensors.torch.save(self._own())) if self.step else []

        def write(directory: Path) -> None:
            dsnet.save(model, directory / MODEL)
            if student is not None:
                save_file(student, directory / STUDENT)
            save_file(optimizer, directory / OPTIMIZER)
            for rank, tensors in enumerate(ranks):
                (directory / _rank_file(rank)).write_bytes(tensors)
            (directory / PROGRESS).write_text(json.dumps(progress))

        return write

    def restore(self, directory: Path) -> None:
        """Read what `snapshot` wrote, in place: the next step is the one that was due then."""
        self.model.load_state_dict(dsnet.load(directory / MODEL).state_dict())
        if self.student is not None:
            self.student.load_state_dict(load_file(directory / STUDENT))
        _restore_optimizer(self.optimizer, load_file(directory / OPTIMIZER))
        progress = json.loads((directory / PROGRESS).read_text())
        self.epoch, self.step = progress["epoch"], progress["step"]
        self.lr_scale, self.stale = progress["lr_scale"], progress["stale"]
        self.best = BestEvaluation(**progress["best"]) if progress["best"] else None
        self.losses, self._random, self._others = LossMeter(), {}, False
        if self.step:  # after the networks, whose buffers are those of rank 0
            self._take_own([load_file(path) for path in self._of_ranks(directory)])

    def go_on_drawing(self) -> None:
        """In an epoch that was restored in its middle: draw the numbers that would have come.

        To be called after the epoch was seeded.
        """
        if self._others:
            # The states are of other ranks: continuing two of them on one worker, or one of them on
            # two, would draw some numbers twice.
            self._seed_for_step()
        random, self._random = self._random, {}
        if not random:
            return
        torch.set_rng_state(random["torch"])
        if "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self.device)
        if self.generator is not None:
            self.generator.set_state(random["generator"])

    @property
    def _learner(self) -> DSNet:
        return self.model if self.student is None else self.student

    @property
    def _networks(self) -> dict[str, DSNet]:
        networks = {"model": self.model}
        return networks if self.student is None else {**networks, "student": self.student}

    def _own(self) -> dict[str, Tensor]:
        """What this rank alone has, within an epoch."""
        tensors = {"random.torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        if self.generator is not None:
            tensors["random.generator"] = self.generator.get_state()
        for name, network in self._networks.items():
            tensors |= {f"{name}.{key}": buffer for key, buffer in network.named_buffers()}
        tensors |= {f"losses.{key}": value for key, value in self.losses.to_tensors().items()}
        return _copies(tensors)

    def _of_ranks(self, directory: Path) -> list[Path]:
        """The file of this rank; where others than these workers wrote them, all."""
        count = len(list(directory.glob(_rank_file("*"))))
        self._others = count != self.world_size
        ranks = range(count) if self._others else [self.rank]
        return [directory / _rank_file(rank) for rank in ranks]

    def _take_own(self, ranks: list[dict[str, Tensor]]) -> None:
        for name, network in self._networks.items():
            for key, buffer in network.named_buffers():
                buffer.copy_(_mean([tensors[f"{name}.{key}"] for tensors in ranks]))
        if not self._others:
            self._random = _under("random", ranks[0])
        self.losses = LossMeter.from_tensors(_under("losses", ranks[0]), self.device)

    def _seed_for_step(self) -> None:
        """Seed for this epoch and step, so that no number is drawn that others drew before it."""
        torch.manual_seed(_seed_of(torch.initial_seed(), self.step))
        if self.generator is not None:
            self.generator.manual_seed(_seed_of(self.generator.initial_seed(), self.step))


def _rank_file(rank: int | str) -> str:
    return f"rank-{rank}.safetensors"


def _seed_of(epoch_seed: int, step: int) -> int:
    return (epoch_seed * 1_000_003 + step) % 2**63


def _mean(values: list[Tensor]) -> Tensor:
    """Of what several ranks have; counts, which are whole, are the same on all."""
    first, *others = values
    return torch.stack(values).mean(0) if others and first.is_floating_point() else first


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, and no tensor of the networks': those go on changing."""
    return {
        key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in tensors.items()
    }


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors by parameter number and name: `12.momentum_buffer`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": torch.as_tensor(value)
        for index, values in state.items()
        for key, value in values.items()
        if value is not None
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = _laid_out_as(parameters[int(index)], value)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` in the memory format of its parameter, where it has one value for each of its.

    Fused optimizers walk the raw memory of both side by side: a contiguous buffer with a
    channels_last parameter would give each weight the momentum of another.
    """
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
