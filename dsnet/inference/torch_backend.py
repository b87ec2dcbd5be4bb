"""A folded network in PyTorch: each image through its own branch, on any device."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnet.inference import fold
from dsnet.inference.fold import Folded
from dsnet.nn import plan
from dsnet.nn.gate import pick


class TorchBackend(nn.Module):
    """Runs a `Folded` network. Every branch owns its weights, in channels_last memory.

    compile: run the layers between two forks through torch.compile. That pays where batches come
    in few sizes; a new one may compile anew.
    """

    def __init__(self, folded: Folded, compile: bool = False):
        super().__init__()
        self.register_buffer("mean", folded.mean)
        self.trunk = _Trunk(folded.trunk, compile)
        self.requires_grad_(False)

    mean: Tensor

    @torch.inference_mode()
    def forward(self, images: Tensor, price: float) -> tuple[Tensor, Tensor]:
        """images: uint8 (N, size, size, 3), N > 0 -> outputs (N, …), widths int64 (N,)."""
        # NHWC viewed as NCHW is channels_last already: no pixel moves.
        pixels = (images.to(self.mean.device, non_blocking=True) - self.mean).permute(0, 3, 1, 2)
        logits, widths = self.trunk(pixels, price)
        return logits, widths


class _Trunk(nn.Module):
    def __init__(self, trunk: fold.Trunk, compile: bool):
        super().__init__()
        self.layers = nn.Sequential(*(_layer(layer) for layer in trunk.layers))
        if compile:
            self.layers.compile(dynamic=True)
        end = trunk.end
        self.end = _Fork(end, compile) if isinstance(end, fold.Fork) else _End(end)

    def forward(self, x: Tensor, price: float) -> tuple[Tensor, Tensor]:
        logits, widths = self.end(self.layers(x), price)
        return logits, widths


class _Fork(nn.Module):
    """Attention on what comes in, then each image to the branch that its slimming head picks."""

    def __init__(self, fork: fold.Fork, compile: bool):
        super().__init__()
        self.attention = _Attention(fork.attention)
        self.head = nn.ModuleList(_Linear(linear) for linear in fork.head)
        self.register_buffer("cost", fork.cost)
        self.register_buffer("routes", torch.arange(len(fork.branches), device=fork.cost.device))
        self.branches = nn.ModuleList(_Trunk(branch, compile) for branch in fork.branches)

    cost: Tensor
    routes: Tensor

    def forward(self, x: Tensor, price: float) -> tuple[Tensor, Tensor]:
        x, scores = self.attention.weigh(x)
        for index, linear in enumerate(self.head):
            scores = linear(F.relu(scores) if index else scores)
        choice = pick(scores - price * self.cost)
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


class _End(nn.Module):
    def __init__(self, end: fold.End):
        super().__init__()
        self.layers = nn.Sequential(*(_layer(layer) for layer in end.layers))
        self.width = end.width

    def forward(self, x: Tensor, price: float) -> tuple[Tensor, Tensor]:
        return self.layers(x), torch.full((len(x),), self.width, device=x.device)


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
        if self.activation == "silu":
            return F.silu(x, inplace=True)
        return F.relu_(x) if self.activation == "relu" else x


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

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        body: Tensor = self.body(x)
        return F.relu_(body.add_(shortcut))


def _layer(layer: plan.Layer) -> nn.Module:
    match layer:
        case plan.Conv():
            return _Conv(layer)
        case plan.Attention():
            return _Attention(layer)
        case plan.MaxPool():
            return nn.MaxPool2d(3, 2, 1)
        case plan.Residual():
            return _Residual(layer)
        case plan.GlobalAverage():
            return _GlobalAverage()
        case plan.Linear():
            return _Linear(layer)
