"""Slimmable layers: each runs on the first channels of its weights, as many as it is asked for.

The input's channel count says how much of the input side to use, so that only the output side is
ever passed in; no layer remembers a width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int]
"""Height and width, in pixels."""

FEW_CHANNELS = 16
"""Below a block of channels (AVX-512's, the larger) oneDNN gets no 1x1 convolution with a stride.

In the channels_last format its backward pass writes beyond its memory (oneDNN 3.13.3 in torch 2.15,
AVX2, fewer than 8 channels). From a block on it is right, and faster than slicing.
"""

BATCHNORM_EPS = 1e-5
BATCHNORM_MOMENTUM = 0.1


def silu(x: Tensor) -> Tensor:
    """SiLU; in place where no gradient is due, for autograd would copy what it overwrites."""
    return F.silu(x, inplace=not x.requires_grad)


def global_average(x: Tensor) -> Tensor:
    """x: (N, c, H, W) -> (N, c).

    The sum is divided and not the images: the backward pass of a mean divides a tensor as large as
    x, that of a sum none.
    """
    return x.sum((2, 3)) / (x.shape[2] * x.shape[3])


def area(size: Shape) -> int:
    """Pixels in a plane of that size."""
    return size[0] * size[1]


def strided(size: Shape, stride: int) -> Shape:
    """What a layer of that stride, padded by kernel // 2, makes of a plane."""
    return -(-size[0] // stride), -(-size[1] // stride)


class SlimConv2d(nn.Module):
    """A convolution at width (i, o): `weight[:o, :i]`, no bias, padding kernel // 2."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")

    def forward(self, x: Tensor, out_channels: int, bias: Tensor | None = None) -> Tensor:
        """x: (N, i, H, W), bias: (out_channels,) -> (N, out_channels, H / stride, W / stride)."""
        weight = self.weight[:out_channels, : x.shape[1]]
        if self.kernel == 1 and self.stride > 1 and x.shape[1] < FEW_CHANNELS:
            # The same sum, of the pixels that it reads.
            return F.conv2d(x[:, :, :: self.stride, :: self.stride], weight, bias)
        return F.conv2d(x, weight, bias, self.stride, self.kernel // 2)


class SlimDepthwiseConv2d(nn.Module):
    """A depthwise convolution at width c: `weight[:c]`, no bias, padding kernel // 2."""

    def __init__(self, channels: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel, kernel))
        # Each output channel sees one input channel, so its fan is the kernel alone.
        nn.init.kaiming_normal_(self.weight, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, c, H, W) -> (N, c, H / stride, W / stride)."""
        channels = x.shape[1]
        return F.conv2d(
            x, self.weight[:channels], None, self.stride, self.kernel // 2, groups=channels
        )


class SlimBatchNorm2d(nn.Module):
    """BatchNorm with private running statistics for each width and one shared affine pair.

    The statistics of all widths lie end to end in one buffer, so that averaging, broadcasting and
    saving them is one operation; `statistics(c)` gives the views that belong to width c.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.widths = tuple(widths)
        self.weight = nn.Parameter(torch.ones(widths[-1]))
        self.bias = nn.Parameter(torch.zeros(widths[-1]))
        self.register_buffer("running_mean", torch.zeros(sum(widths)))
        self.register_buffer("running_var", torch.ones(sum(widths)))
        self._start = {width: sum(self.widths[:i]) for i, width in enumerate(self.widths)}

    running_mean: Tensor
    running_var: Tensor

    def statistics(self, channels: int) -> tuple[Tensor, Tensor]:
        """Views (channels,) of the running mean and variance of width `channels`."""
        here = slice(self.start(channels), self.start(channels) + channels)
        return self.running_mean[here], self.running_var[here]

    def start(self, channels: int) -> int:
        """Where the statistics of width `channels` begin in the running buffers."""
        return self._start[channels]

    def forward(self, x: Tensor, mixture: Tensor | None = None) -> Tensor:
        """x: (N, c, H, W) -> the same shape, normalised with the statistics of width c.

        With `mixture` (N, len(widths)), x has the widest c and each image is normalised by the
        mixture's blend of the widths' own normalisations, zero beyond their channels: with a
        one-hot row, exactly what the sliced layer computes, padded with zeros. The gradient with
        respect to the mixture is what stage II learns from.
        """
        if mixture is not None:
            scale, shift = self._affine_per_width()
            return x * (mixture @ scale)[..., None, None] + (mixture @ shift)[..., None, None]
        channels = x.shape[1]
        mean, var = self.statistics(channels)
        return F.batch_norm(
            x,
            mean,
            var,
            self.weight[:channels],
            self.bias[:channels],
            self.training,
            BATCHNORM_MOMENTUM,
            BATCHNORM_EPS,
        )

    def folded(self, channels: int) -> tuple[Tensor, Tensor]:
        """Scale and shift, (channels,) each, that equal this layer in eval mode at that width."""
        mean, var = self.statistics(channels)
        scale = self.weight[:channels] * torch.rsqrt(var + BATCHNORM_EPS)
        return scale, self.bias[:channels] - mean * scale

    def _affine_per_width(self) -> tuple[Tensor, Tensor]:
        """`folded` of every width, padded with zeros: two of (len(widths), widest)."""
        device = self.running_mean.device
        channels = torch.arange(self.widths[-1], device=device)
        inside = channels < torch.tensor(self.widths, device=device)[:, None]
        # Read row by row, what lies inside is the widths' statistics end to end.
        blank = self.running_mean.new_zeros(inside.shape)
        mean = blank.masked_scatter(inside, self.running_mean)
        var = blank.masked_scatter(inside, self.running_var)
        scale = inside * self.weight * torch.rsqrt(var + BATCHNORM_EPS)
        return scale, inside * self.bias - mean * scale


class SlimBias2d(nn.Module):
    """A bias for each channel, of which the first c are used: what is left of a BatchNorm where a
    network does without.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.widths = tuple(widths)
        self.bias = nn.Parameter(torch.zeros(widths[-1]))

    def first(self, channels: int) -> Tensor:
        """(channels,): for the convolution, which adds it in bfloat16 too where that is on.

        Added after it as float32, it would make float32 of all that follows.
        """
        return self.bias[:channels]

    def masked(self, x: Tensor, mixture: Tensor | None) -> Tensor:
        """What comes of a convolution with this bias, x: (N, c, H, W), as it is.

        With `mixture` (N, len(widths)), x has the widest c, and each image the mixture's blend of
        what the widths have of it, zero beyond their channels: see `SlimBatchNorm2d.forward`.
        """
        if mixture is None:
            return x
        channels = torch.arange(self.widths[-1], device=x.device)
        inside = channels < torch.tensor(self.widths, device=x.device)[:, None]
        return x * (mixture @ inside.to(mixture.dtype))[..., None, None]

    def folded(self, channels: int) -> tuple[None, Tensor]:
        """No scale, and the shift (channels,) that equals this layer at that width."""
        return None, self.bias[:channels]


class SlimLinear(nn.Linear):
    """A linear layer over the first features of its input: `weight[:, :i]`."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, i) -> (N, out_features)."""
        return F.linear(x, self.weight[:, : x.shape[1]], self.bias)
