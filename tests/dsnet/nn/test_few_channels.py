"""Layers of few channels in the format that training uses keep within their memory.

oneDNN's kernels for few channels have written beyond theirs, which ends a worker a while later or,
worse, changes what lies beside. A process of its own runs the layers, for it may not survive.
"""

import pytest
import torch

from dsnet.nn.layers import SlimConv2d, SlimDepthwiseConv2d
from tests import forked

SIZE = 14


def steps(_: int, channels: int) -> None:
    """Forty steps of layers of each kind; the last gradients are what double precision says."""
    torch.manual_seed(0)
    layers = [SlimConv2d(16, 16, kernel, stride) for kernel in (1, 3) for stride in (1, 2)]
    depthwise = [SlimDepthwiseConv2d(16, 3, stride) for stride in (1, 2)]
    for layer in (*layers, *depthwise):
        of_depthwise = isinstance(layer, SlimDepthwiseConv2d)
        widths = (16,) if of_depthwise else (16, 16)
        exact = type(layer)(*widths, layer.kernel, layer.stride)
        exact.load_state_dict(layer.state_dict())
        layer, exact = layer.to(memory_format=torch.channels_last), exact.double()
        arguments = () if of_depthwise else (12,)
        for step in range(40):
            x = torch.randn(32, channels, SIZE, SIZE).to(memory_format=torch.channels_last)
            x.requires_grad_()
            y = layer(x, *arguments)
            upstream = torch.randn_like(y)
            found = torch.autograd.grad(y, (x, layer.weight), upstream)
            _beside = [torch.randn(1000 + step) for _ in range(20)]
        twin = x.detach().double().contiguous().requires_grad_()
        y = exact(twin, *arguments)
        expected = torch.autograd.grad(y, (twin, exact.weight), upstream.double().contiguous())
        for name, here, there in zip(("input", "weight"), found, expected, strict=True):
            where = f"{type(layer).__name__} {layer.kernel} {layer.stride}: {name}"
            torch.testing.assert_close(
                here.double(), there, rtol=1e-4, atol=1e-3, msg=lambda m, at=where: f"{at}: {m}"
            )


@pytest.mark.parametrize("channels", [1, 4, 7, 8])
def test_a_step_of_a_layer_is_what_double_precision_says_and_harms_nothing(channels: int) -> None:
    forked.run(steps, channels)
