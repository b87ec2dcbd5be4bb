"""Stage I: in-place (ensemble) bootstrapping under the sandwich rule."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dsnet.errors import InputError
from dsnet.models.network import DSNet
from dsnet.models.width import Width
from dsnet.nn.layers import BATCHNORM_MOMENTUM
from dsnet.training.distributed import GradientReducer
from dsnet.training.passes import Passes

Losses = dict[str, Tensor]
Criterion = Callable[[Tensor], Tensor]
MakePasses = Callable[[DSNet], Passes]


def bootstrap_step(
    model: DSNet,
    teacher: DSNet,
    images: Tensor,
    labels: Tensor,
    random_widths: Sequence[int | Width],
    ensemble: bool = True,
    label_smoothing: float = 0.0,
    reducer: GradientReducer | None = None,
    passes: MakePasses = Passes,
) -> Losses:
    """One batch of stage I: backward of every term, gradients summed. See `SupernetStep`.

    The largest width learns from the labels, the random widths from the teacher's largest output,
    the smallest from the mean of the teacher's outputs at the largest and at those same random
    widths (`ensemble`) or at the largest alone.
    """
    method: Method = "ensemble" if ensemble else "plain"
    step = SupernetStep(model, teacher, method, label_smoothing, passes=passes)
    return step(images, labels, random_widths, reducer)


Method = Literal["ensemble", "plain", "distill", "labels"]


@dataclass(frozen=True)
class SupernetStep:
    """One batch of stage I, by any of its methods; called with the batch.

    The order of the terms is free, as every target comes from the teacher or the labels. What runs
    last completes the gradients, and arms the reducer that averages them over workers meanwhile.
    """

    model: DSNet
    teacher: DSNet | None = None
    """The moving average of `model`, in eval mode; for "ensemble" and "plain" alone."""
    method: Method = "ensemble"
    """What the slim widths learn from: the teacher (see `bootstrap_step`), the model's own largest
    width ("distill") or the labels."""
    label_smoothing: float = 0.0
    """Of class labels."""
    guarded: bool = False
    """Whether a width whose loss against the labels is no higher than the teacher's learns from the
    labels in this step. The paper has no such rule. A teacher that knows less than its pupil has
    nothing to teach: early in a training it is often sure of one wrong class, which slim widths
    would learn by heart, in filters that they share with the teacher (docs/training.md)."""
    passes: MakePasses = Passes
    """How the networks run; where they are compiled, the same ones at each call."""
    bfloat16: bool = False
    """Whether passes run in mixed precision."""

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        random_widths: Sequence[int | Width],
        reducer: GradientReducer | None = None,
    ) -> Losses:
        """Backward of every term; returns the detached losses, scalars.

        images: normalised float (N, 3, H, W); labels: int64 (N,), probabilities (N, classes) of
        mixed pictures, or what else the model's task has for targets. reducer: its `finish` is the
        caller's. Returns {"largest", "random_0", …, "smallest"}; a network of one width learns from
        the labels alone, and has but the loss "largest".
        """
        model, device = self.model, images.device.type
        run = self.passes(model)
        mixed = torch.autocast(device, torch.bfloat16) if self.bfloat16 else nullcontext()
        with mixed:
            hard = _hard(model, labels, self.label_smoothing)
            if model.space[0] == model.space.largest:
                return {"largest": _largest_term(run, images, hard, reducer)}
            widths = _inner_widths(model, random_widths)
            if self.method == "distill":
                return self._distill(run, images, widths, hard, reducer)
            if self.method == "labels":
                slim = _slim_terms(run, images, widths, hard, hard)
            else:
                slim = self._bootstrap(run, images, widths, hard)
            # Last, so that its backward completes the gradient of every parameter.
            return {"largest": _largest_term(run, images, hard, reducer), **slim}

    def _bootstrap(
        self, run: Passes, images: Tensor, widths: Sequence[Width], hard: Criterion
    ) -> Losses:
        """The slim widths learn from the teacher's answers."""
        teacher = self.teacher
        if teacher is None:
            raise ValueError(f"expected a teacher for method {self.method}, found none")
        teach = self.passes(teacher)
        with torch.no_grad():
            outputs = [teach.whole(images, teacher.space.largest)]
            if self.method == "ensemble" and widths:
                shared = _SharedPrefix(teach, images, updates=0)
                outputs += [shared.outputs(width) for width in widths]
        of_largest, of_all = self._soft(outputs[:1], hard), self._soft(outputs, hard)
        return _slim_terms(run, images, widths, of_largest, of_all)

    def _distill(
        self,
        run: Passes,
        images: Tensor,
        widths: Sequence[Width],
        hard: Criterion,
        reducer: GradientReducer | None,
    ) -> Losses:
        """The slim widths learn from the model's own largest, which therefore comes first."""
        outputs = run.whole(images, self.model.space.largest)
        loss = hard(outputs)
        loss.backward()
        soft = self._soft([outputs.detach()], hard)
        slim = _slim_terms(run, images, widths, soft, soft, reducer)
        return {"largest": loss.detach(), **slim}

    def _soft(self, teachers: Sequence[Tensor], hard: Criterion) -> Criterion:
        """The loss against the mean of what `teachers` answered, unless they know less."""
        task = self.model.task
        soft = torch.stack([task.soften(outputs) for outputs in teachers]).mean(0)
        if not self.guarded:
            return lambda outputs: task.distill(outputs, soft).mean()
        theirs = torch.stack([hard(outputs) for outputs in teachers]).mean()
        soft = soft.nan_to_num()  # what is not chosen has a gradient of 0, and 0 times NaN is NaN

        def criterion(outputs: Tensor) -> Tensor:
            ours = hard(outputs)
            return torch.where(theirs < ours, task.distill(outputs, soft).mean(), ours)

        return criterion


def random_widths(model: DSNet, count: int, generator: torch.Generator) -> list[int]:
    """`count` different sub-networks between the smallest and the widest, uniformly at random.

    The smallest and the largest are in every batch anyway (sandwich rule). Fewer if there are not
    as many.
    """
    # Without gates the last sub-network is the largest itself.
    inner = len(model.space) - 1 - (model.space[-1] == model.space.largest)
    order = torch.randperm(max(inner, 0), generator=generator)
    return sorted((order[:count] + 1).tolist())


def _hard(model: DSNet, labels: Tensor, label_smoothing: float) -> Criterion:
    return lambda outputs: model.task.loss(outputs, labels, label_smoothing).mean()


def _largest_term(
    passes: Passes, images: Tensor, hard: Criterion, reducer: GradientReducer | None
) -> Tensor:
    loss = hard(passes.whole(images, passes.model.space.largest))
    if reducer is not None:
        reducer.arm()
    loss.backward()
    return loss.detach()


def _slim_terms(
    passes: Passes,
    images: Tensor,
    widths: Sequence[Width],
    random_criterion: Criterion,
    smallest_criterion: Criterion,
    reducer: GradientReducer | None = None,
) -> Losses:
    """Backward of the random widths' and the smallest width's losses.

    reducer: given where nothing comes after them.
    """
    terms = {f"random_{i}": (width, random_criterion) for i, width in enumerate(widths)}
    terms["smallest"] = (passes.model.space[0], smallest_criterion)
    shared = _SharedPrefix(passes, images, updates=len(terms))
    losses = {}
    for name, (width, criterion) in terms.items():
        loss = criterion(shared.outputs(width))
        if reducer is not None and name == "smallest":
            # It completes the tails' gradients, and the shared prefix its own just after.
            reducer.arm()
        loss.backward()
        losses[name] = loss.detach()
    shared.backward()
    return losses


def _inner_widths(model: DSNet, widths: Sequence[int | Width]) -> list[Width]:
    resolved = [model.space.resolve(width) for width in widths]
    if strangers := [width for width in resolved if width not in model.space]:
        raise InputError(f"random widths must be sub-networks of the space, found {strangers[0]}")
    return resolved


class _SharedPrefix:
    """Segment 0 at its slim width, run once for all sub-networks of a batch.

    The tails' gradients gather at its output and go back through it in one pass: the sum of
    gradients is the same, at a fraction of the cost. `updates` says how many forwards the shared
    one stands for, so that the running statistics move as far as they would have. A network
    without gates shares nothing, and every sub-network runs on its own.
    """

    def __init__(self, passes: Passes, images: Tensor, updates: int):
        self.passes, self.images = passes, images
        self.output: Tensor | None = None
        model = passes.model
        if not model.architecture.gates:
            return
        # One update moves the statistics by m of their way, n in a row by 1 - (1 - m)^n.
        way = (1 - (1 - BATCHNORM_MOMENTUM) ** updates) / BATCHNORM_MOMENTUM
        self.statistics = list(model.buffers()) if updates > 1 else []
        before = [buffer.clone() for buffer in self.statistics]
        self.output = passes.prefix(images)
        self.leaf = self.output.detach().requires_grad_(self.output.requires_grad)
        self.rest = [
            (new - old) * (way - 1) for new, old in zip(self.statistics, before, strict=True)
        ]

    def outputs(self, width: Width) -> Tensor:
        if self.output is None:
            return self.passes.whole(self.images, width)
        return self.passes.tail(self.leaf, self.images, width)

    def backward(self) -> None:
        if self.output is None:
            return
        if self.output.requires_grad:  # where it is frozen, nothing goes back
            self.output.backward(self.leaf.grad)
        if self.statistics:  # only now: the backward pass still refers to these buffers
            torch._foreach_add_(self.statistics, self.rest)
