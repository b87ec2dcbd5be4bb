"""Stage II: sandwich gate sparsification with a straight-through Gumbel-softmax."""

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from dsnet.errors import InputError
from dsnet.errors.checks import check_choice
from dsnet.models.network import DSNet
from dsnet.tasks.base import Measured

Strategy = Literal["try_best", "give_up", "off"]


@dataclass(frozen=True)
class GateLoss:
    """The three-term loss: the task's own (the paper's classification) + complexity + SGS."""

    classification: float = 1.0
    """Weight of the task's own loss."""
    complexity: float = 0.5
    """Weight of the complexity term."""
    sgs_weight: float = 1.0
    """Weight of sandwich gate sparsification."""
    sgs: Strategy = "try_best"
    """What sandwich gate sparsification teaches. Images that the smallest routable width gets right
    (`Task.easy`) belong to it. "try_best" sends all others to the widest routable; "give_up" sends
    those that even the widest gets wrong to the smallest too; "off" leaves the term out."""
    target: float | None = None
    """None for the official complexity, (mean multiply-adds / 1e9)^2; a count for the relative
    excess of the mean over it, max(0, mean / target - 1), nothing when it is met."""
    temperature: float = 1.0
    """Of the Gumbel-softmax."""

    def __post_init__(self) -> None:
        check_choice("sgs", self.sgs, get_args(Strategy))


def freeze_trunk(model: DSNet) -> None:
    """Leave the slimming heads alone to learn, and BatchNorm in eval mode."""
    if not model.architecture.gates:
        raise InputError(f"{model.architecture.name} has no gate to train")
    model.eval().requires_grad_(False)
    for parameter in model.slimming_parameters():
        parameter.requires_grad_(True)


def gate_step(
    model: DSNet,
    images: Tensor,
    labels: Tensor,
    loss: GateLoss = GateLoss(),
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """One batch of stage II: forward through masks, backward into the slimming heads.

    images: normalised float (N, 3, H, W); labels: int64 (N,), or what else the model's task has for
    targets; `model` as `freeze_trunk` leaves it. Returns detached scalars: "loss" and its terms
    "classification", "complexity" and "sgs", the mean "madds" of the sampled routes, the mean of
    each of the task's measures by its name ("top1", "top5"), and the share of "easy" images.
    """
    if model.training:
        raise InputError("gate_step needs the trunk frozen: call freeze_trunk(model) first")
    with torch.no_grad():
        x, reduced = model.segment(0, images, model.space[0])
        targets, easy = _sgs_targets(model, x, images, labels, loss.sgs)
    outputs, choices, gate_logits = _masked(model, x, images, reduced, loss.temperature, generator)
    madds = _sampled_madds(model, choices)
    terms = {
        "classification": model.task.loss(outputs, labels).mean(),
        "complexity": _complexity(madds, loss.target),
        "sgs": _sgs(model, gate_logits, targets),
    }
    total = (
        loss.classification * terms["classification"]
        + loss.complexity * terms["complexity"]
        + loss.sgs_weight * terms["sgs"]
    )
    total.backward()
    terms |= {
        "loss": total,
        "madds": madds.mean(),
        "easy": easy.float().mean(),
    }
    measured = model.task.measure(outputs, labels)
    terms |= {name: values.float().mean() for name, values in measured.items()}
    return {name: value.detach() for name, value in terms.items()}


def gumbel_one_hot(
    logits: Tensor, temperature: float, generator: torch.Generator | None = None
) -> Tensor:
    """A sampled one-hot (N, K) whose gradient is the Gumbel-softmax's: straight-through."""
    noise = -torch.empty_like(logits).exponential_(generator=generator).log()
    soft = ((logits + noise) / temperature).softmax(1)
    hard = F.one_hot(soft.argmax(1), soft.shape[1]).to(soft.dtype)
    # The order matters: hard + (soft - soft) is exactly one-hot.
    return hard + (soft - soft.detach())


def _masked(
    model: DSNet,
    x: Tensor,
    images: Tensor,
    reduced: Tensor | None,
    temperature: float,
    generator: torch.Generator | None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """From segment 0's output to the network's, every later segment masked by a sampled choice.

    Returns the outputs (N, …), and per gate its sampled choice and its logits (N, routes).
    """
    widest = model.space.largest
    choices, gate_logits = [], []
    for index, gate in enumerate(model.gates):
        assert reduced is not None
        logits = gate.logits(reduced)
        choice = gumbel_one_hot(logits, temperature, generator)
        # From the gate's routes to the stage's whole channel list.
        mixture = choice.new_zeros(len(choice), model.space.options[index])
        mixture = mixture.index_copy(
            1, torch.tensor(model.space.choices[index], device=choice.device), choice
        )
        x, reduced = model.segment(index + 1, x, widest, mixture)
        choices.append(choice)
        gate_logits.append(logits)
    return model.answer(x, images, widest), choices, gate_logits


def _sampled_madds(model: DSNet, choices: list[Tensor]) -> Tensor:
    """Multiply-adds of each image's sampled path, (N,), differentiable in the choices."""
    joint = choices[0]
    for choice in choices[1:]:
        joint = (joint[:, :, None] * choice[:, None, :]).flatten(1)
    madds = [float(model.madds(route)) for route in model.space.routes]
    return joint @ torch.tensor(madds, device=joint.device, dtype=joint.dtype)


def _complexity(madds: Tensor, target: float | None) -> Tensor:
    if target is None:
        return (madds.mean() / 1e9).square()
    return F.relu(madds.mean() / target - 1)


def _sgs_targets(
    model: DSNet, x: Tensor, images: Tensor, labels: Tensor, strategy: Strategy
) -> tuple[Tensor | None, Tensor]:
    """Which images should go wide, bool (N,) or None, and which are easy, bool (N,)."""

    @cache
    def measured(end: int) -> Measured:
        width = model.space[model.space.routes[end]]
        return model.task.measure(model.tail(x, images, width), labels)

    easy = model.task.easy(measured(0), lambda: measured(-1))
    if strategy == "off":
        return None, easy
    if strategy == "give_up":
        return ~easy & ~model.task.hopeless(measured(-1)), easy
    return ~easy, easy


def _sgs(model: DSNet, gate_logits: list[Tensor], wide: Tensor | None) -> Tensor:
    """Cross-entropy of each gate against the smallest or the widest of its routes, averaged."""
    if wide is None:
        return gate_logits[0].new_zeros(())
    terms = [F.cross_entropy(logits, wide * (logits.shape[1] - 1)) for logits in gate_logits]
    return torch.stack(terms).mean()
