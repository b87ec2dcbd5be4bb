"""A folded network in PyTorch: each image through its own branch, on any device."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnet.inference import fold
from dsnet.inference.fold import Folded
from dsnet.models.second_look import Routed, run_tails
from dsnet.nn import plan
from dsnet.nn.gate import moments, pick


class TorchBackend(nn.Module):
    """Runs a `Folded` network. Every branch owns its weights, in channels_last memory.

    compile: run the layers between two forks through torch.compile. That pays where batches come
    in few sizes; a new one may compile anew.
    """

    def __init__(self, folded: Folded, compile: bool = False):
        super().__init__()
        self.register_buffer("mean", folded.mean)
        self.factor = folded.onto.factor if folded.onto else 0
        counts = folded.onto.per_square if folded.onto else folded.madds
        self.register_buffer("madds", torch.tensor(counts, device=folded.mean.device))
        self.register_buffer("scale", folded.onto.scale if folded.onto else None)
        self.trunk = _Trunk(folded.trunk, compile)
        self.requires_grad_(False)

    mean: Tensor
    madds: Tensor
    scale: Tensor | None

    @torch.inference_mode()
    def forward(self, images: Tensor, price: float) -> Routed:
        """images: uint8 (N, size, size, 3), N > 0; of any size where outputs are pictures."""
        # NHWC viewed as NCHW is channels_last already: no pixel moves.
        pixels = (images.to(self.mean.device, non_blocking=True) - self.mean).permute(0, 3, 1, 2)
        if isinstance(self.trunk.end, _LookingFork):
            outputs, widths, madds = self.trunk(pixels, price)
            return Routed(outputs, widths, madds)
        outputs, widths = self.trunk(pixels, price)
        madds = self.madds[widths]
        if self.scale is not None:
            height, width = pixels.shape[2:]
            outputs = outputs[:, :, :height, :width] + pixels * self.scale[:, None, None]
            madds = madds * (-(-height // self.factor) * -(-width // self.factor))
        return Routed(outputs, widths, madds)


class _Trunk(nn.Module):
    def __init__(self, trunk: fold.Trunk, compile: bool):
        super().__init__()
        self.layers = nn.Sequential(*(_layer(layer) for layer in trunk.layers))
        if compile:
            self.layers.compile(dynamic=True)
        self.end = _end(trunk.end, compile)

    def forward(self, x: Tensor, price: float) -> tuple[Tensor, ...]:
        answer: tuple[Tensor, ...] = self.end(self.layers(x), price)
        return answer


class _Scorer(nn.Module):
    def __init__(self, scorer: fold.Scorer):
        super().__init__()
        self.layers = nn.ModuleList(_Linear(linear) for linear in scorer)

    def forward(self, x: Tensor) -> Tensor:
        for index, linear in enumerate(self.layers):
            x = linear(F.relu(x) if index else x)
        return x


class _Fork(nn.Module):
    """Attention on what comes in, then each image to the branch that its slimming head picks."""

    def __init__(self, fork: fold.Fork, compile: bool):
        super().__init__()
        self.attention = _Attention(fork.attention) if fork.attention else None
        self.features = fork.features
        self.head = _Scorer(fork.head)
        self.register_buffer("cost", fork.cost)
        self.register_buffer("routes", torch.arange(len(fork.branches), device=fork.cost.device))
        self.branches = nn.ModuleList(_Trunk(branch, compile) for branch in fork.branches)

    cost: Tensor
    routes: Tensor

    def choose(self, x: Tensor, price: float) -> tuple[Tensor, Tensor]:
        """What the branches see, and the branch of each image."""
        if self.attention is not None:
            x, reduced = self.attention.weigh(x)
        else:
            reduced = moments(x, self.features)
        return x, pick(self.head(reduced) - price * self.cost)

    def forward(self, x: Tensor, price: float) -> tuple[Tensor, ...]:
        x, choice = self.choose(x, price)
        order = choice.argsort(stable=True)
        # How large each group is: the one thing that the host has to wait for. (On a GPU bincount
        # would wait twice more, to look for the largest value.)
        sizes: list[int] = (choice[:, None] == self.routes).sum(0).tolist()
        if max(sizes) == len(x):
            logits, widths = self.branches[sizes.index(len(x))](x, price)
            return logits, widths
        groups = [
            branch(x.index_select(0, rows), price)
            for branch, rows in zip(self.branches, order.split(sizes), strict=True)
            if len(rows)
        ]
        logits, widths = (torch.cat(parts) for parts in zip(*groups, strict=True))
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        return logits.index_select(0, back), widths.index_select(0, back)


class _LookingFork(_Fork):
    """After each branch a head over what it concludes says whether to stop, or what runs next."""

    def __init__(self, fork: fold.Fork, looks: fold.Looks, compile: bool):
        super().__init__(fork, compile)
        self.looks = looks
        self.heads = nn.ModuleList(_Scorer(head) for head in looks.heads)
        self.register_buffer("look_cost", looks.cost)
        ends = [branch.end.width for branch in fork.branches if isinstance(branch.end, fold.End)]
        self.register_buffer("ends", torch.tensor(ends, device=fork.cost.device))

    look_cost: Tensor
    ends: Tensor

    def forward(self, x: Tensor, price: float) -> tuple[Tensor, ...]:
        x, first = self.choose(x, price)
        outputs = x.new_empty(len(x), *self.looks.shape)

        def tail(position: int, rows: Tensor) -> Tensor:
            answers: Tensor = self.branches[position](
                x if len(rows) == len(x) else x.index_select(0, rows), price
            )[0]
            return answers

        answered, madds = run_tails(
            first,
            outputs,
            tail,
            lambda at, answers: self.heads[at](self.looks.evidence(answers)),
            price * self.look_cost,
            self.looks.prefix,
            self.looks.tails,
        )
        return outputs, self.ends[answered], madds


class _End(nn.Module):
    def __init__(self, end: fold.End):
        super().__init__()
        self.layers = nn.Sequential(*(_layer(layer) for layer in end.layers))
        self.width = end.width

    def forward(self, x: Tensor, price: float) -> tuple[Tensor, ...]:
        return self.layers(x), torch.full((len(x),), self.width, device=x.device)


def _end(end: fold.Fork | fold.End, compile: bool) -> nn.Module:
    match end:
        case fold.Fork(looks=fold.Looks() as looks):
            return _LookingFork(end, looks, compile)
        case fold.Fork():
            return _Fork(end, compile)
        case fold.End():
            return _End(end)


class _Conv(nn.Module):
    def __init__(self, conv: plan.Conv):
        super().__init__()
        weight = conv.weight.tensor().contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", conv.bias)
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups
        self.activation = conv.activation

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, 1, self.groups)
        return _activated(x, self.activation)


def _activated(x: Tensor, activation: plan.Activation) -> Tensor:
    """In place."""
    match activation:
        case "relu":
            return F.relu_(x)
        case "silu":
            return F.silu(x, inplace=True)
        case "none":
            return x
        case _:
            plan.unknown_activation(activation)


class _Linear(nn.Module):
    def __init__(self, linear: plan.Linear):
        super().__init__()
        self.register_buffer("weight", linear.weight.tensor())
        self.register_buffer("bias", linear.bias)

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class _GlobalAverage(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class _Attention(nn.Module):
    def __init__(self, attention: plan.Attention):
        super().__init__()
        self.reduce, self.expand = _Linear(attention.reduce), _Linear(attention.expand)

    def weigh(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (N, c, H, W) -> x weighed by its attention, and the reduced feature (N, r)."""
        reduced = F.relu_(self.reduce(x.mean((2, 3))))
        return x * torch.sigmoid_(self.expand(reduced))[..., None, None], reduced

    def forward(self, x: Tensor) -> Tensor:
        return self.weigh(x)[0]


class _Residual(nn.Module):
    def __init__(self, residual: plan.Residual):
        super().__init__()
        self.body = nn.Sequential(*(_layer(layer) for layer in residual.body))
        self.shortcut = nn.Sequential(*(_layer(layer) for layer in residual.shortcut))
        self.activation = residual.activation

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        body: Tensor = self.body(x)
        return _activated(body.add_(shortcut), self.activation)


def _layer(layer: plan.Layer) -> nn.Module:
    match layer:
        case plan.Conv():
            return _Conv(layer)
        case plan.Attention():
            return _Attention(layer)
        case plan.MaxPool():
            return nn.MaxPool2d(3, 2, 1)
        case plan.PixelShuffle():
            return nn.PixelShuffle(layer.factor)
        case plan.Residual():
            return _Residual(layer)
        case plan.GlobalAverage():
            return _GlobalAverage()
        case plan.Linear():
            return _Linear(layer)
        case _:
            plan.unknown_layer(layer)
