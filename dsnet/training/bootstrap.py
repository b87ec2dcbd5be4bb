"""Stage I: in-place (ensemble) bootstrapping under the sandwich rule."""

from collections.abc import Callable, Sequence

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
    guarded: bool = False,
) -> Losses:
    """One batch of stage I: backward of every term, gradients summed.

    The largest width learns from the labels, the random widths from the teacher's largest output,
    the smallest from the mean of the teacher's outputs at the largest and at those same random
    widths (`ensemble`) or at the largest alone. The teacher is the moving average of
    `model`, in eval mode.

    images: normalised float (N, 3, H, W); labels: int64 (N,), probabilities (N, classes) of mixed
    pictures, or what else the model's task has for targets. label_smoothing: of class labels.
    reducer: armed before the last backward pass, to average gradients over workers while it runs;
    its `finish` is the caller's.
    passes: how `model` and `teacher` run; where they are compiled, the same ones at each call.
    guarded: whether a width whose loss against the labels is no higher than the teacher's learns
    from the labels in this step. The paper has no such rule. A teacher that knows less than its
    pupil has nothing to teach: early in a training it is often sure of one wrong class, which slim
    widths would learn by heart, in filters that they share with the teacher (docs/training.md).
    Returns the detached losses {"largest", "random_0", …, "smallest"}, scalars. The largest comes
    last in time, so that the gradients of every parameter are complete when its backward ends.
    A network of one width learns from the labels, and has but the loss "largest".
    """
    if _has_one_width(model):
        return labels_step(model, images, labels, (), label_smoothing, reducer, passes)
    widths = _inner_widths(model, random_widths)
    run, teach = passes(model), passes(teacher)
    with torch.no_grad():
        outputs = [teach.whole(images, teacher.space.largest)]
        if ensemble and widths:
            shared = _SharedPrefix(teach, images, updates=0)
            outputs += [shared.outputs(width) for width in widths]
    hard = _hard(model, labels, label_smoothing) if guarded else None
    losses = _slim_terms(
        run, images, widths, _soft(model, outputs[:1], hard), _soft(model, outputs, hard)
    )
    largest = _largest_term(run, images, labels, label_smoothing, reducer)
    return {"largest": largest, **losses}


def distill_step(
    model: DSNet,
    images: Tensor,
    labels: Tensor,
    random_widths: Sequence[int | Width],
    label_smoothing: float = 0.0,
    reducer: GradientReducer | None = None,
    passes: MakePasses = Passes,
    guarded: bool = False,
) -> Losses:
    """One batch of in-place distillation: the slim widths learn from the student's own largest.

    As `bootstrap_step`, with the largest width's detached output as the only soft target.
    """
    if _has_one_width(model):
        return labels_step(model, images, labels, (), label_smoothing, reducer, passes)
    widths = _inner_widths(model, random_widths)
    run = passes(model)
    outputs = run.whole(images, model.space.largest)
    hard = _hard(model, labels, label_smoothing)
    loss = hard(outputs)
    loss.backward()
    soft = _soft(model, [outputs.detach()], hard if guarded else None)
    return {"largest": loss.detach(), **_slim_terms(run, images, widths, soft, soft, reducer)}


def labels_step(
    model: DSNet,
    images: Tensor,
    labels: Tensor,
    random_widths: Sequence[int | Width],
    label_smoothing: float = 0.0,
    reducer: GradientReducer | None = None,
    passes: MakePasses = Passes,
) -> Losses:
    """One batch in which every width learns from the labels alone. As `bootstrap_step`."""
    widths = _inner_widths(model, random_widths)
    hard = _hard(model, labels, label_smoothing)
    run = passes(model)
    losses = {} if _has_one_width(model) else _slim_terms(run, images, widths, hard, hard)
    largest = _largest_term(run, images, labels, label_smoothing, reducer)
    return {"largest": largest, **losses}


def random_widths(model: DSNet, count: int, generator: torch.Generator) -> list[int]:
    """`count` different sub-networks between the smallest and the widest, uniformly at random.

    The smallest and the largest are in every batch anyway (sandwich rule). Fewer if there are not
    as many.
    """
    # Without gates the last sub-network is the largest itself.
    inner = len(model.space) - 1 - (model.space[-1] == model.space.largest)
    order = torch.randperm(max(inner, 0), generator=generator)
    return sorted((order[:count] + 1).tolist())


def _has_one_width(model: DSNet) -> bool:
    """Whether the smallest is the largest, to be trained once in a step."""
    return model.space[0] == model.space.largest


def _hard(model: DSNet, labels: Tensor, label_smoothing: float) -> Criterion:
    return lambda outputs: model.task.loss(outputs, labels, label_smoothing).mean()


def _soft(model: DSNet, teachers: Sequence[Tensor], hard: Criterion | None) -> Criterion:
    """The loss against the mean of what `teachers` answered.

    hard: where given, a width whose loss by it is no higher than the teachers' learns from that.
    """
    soft = torch.stack([model.task.soften(outputs) for outputs in teachers]).mean(0)
    if hard is None:
        return lambda outputs: model.task.distill(outputs, soft).mean()
    theirs = torch.stack([hard(outputs) for outputs in teachers]).mean()
    soft = soft.nan_to_num()  # what is not chosen has a gradient of 0, and 0 times NaN is NaN

    def criterion(outputs: Tensor) -> Tensor:
        ours = hard(outputs)
        return torch.where(theirs < ours, model.task.distill(outputs, soft).mean(), ours)

    return criterion


def _largest_term(
    passes: Passes,
    images: Tensor,
    labels: Tensor,
    label_smoothing: float,
    reducer: GradientReducer | None,
) -> Tensor:
    model = passes.model
    loss = _hard(model, labels, label_smoothing)(passes.whole(images, model.space.largest))
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
