"""What a user would pick instead: MobileNetV1 1.0, and three of torchvision's networks."""

import tempfile
import warnings
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from dsnet.inference.fold import End, Folded, Trunk
from dsnet.models.metadata import IMAGENET_MEAN, IMAGENET_STD
from dsnet.nn.plan import Conv, GlobalAverage, Linear, Weight, count_madds

# MobileNetV1 (arXiv 1704.04861, table 1): output channels and stride of each separable block.
MOBILENET_V1: tuple[tuple[int, int], ...] = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *(5 * ((512, 1),)),
    *((1024, 2), (1024, 1)),
)
TORCHVISION = ("mobilenet_v2", "mobilenet_v3_large", "resnet50")


def mobilenet_v1(size: int = 224, classes: int = 1000) -> Folded:
    """MobileNetV1 1.0 with random weights, its BatchNorm merged as ours is."""

    def conv(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> Conv:
        shape = (outputs, inputs // groups, kernel, kernel)
        weight = torch.empty(shape)
        nn.init.kaiming_normal_(weight, mode="fan_in")
        return Conv(Weight(weight, shape), torch.zeros(outputs), stride, groups, "relu")

    channels = 32
    layers = [conv(3, channels, 3, 2)]
    for outputs, stride in MOBILENET_V1:
        layers.append(conv(channels, channels, 3, stride, channels))
        layers.append(conv(channels, outputs, 1, 1))
        channels = outputs
    # A pixel's scale is merged into the first weights, its mean subtracted before.
    first = layers[0].weight.source
    first /= 255 * torch.tensor(IMAGENET_STD)[:, None, None]
    linear = Linear(
        Weight(torch.randn(classes, channels), (classes, channels)), torch.zeros(classes)
    )
    trunk = Trunk(tuple(layers), End((GlobalAverage(), linear), 0))
    count, *_ = count_madds(layers, 3, (size, size))
    madds = (count + linear.weight.source.numel(),)
    return Folded(trunk, 255 * torch.tensor(IMAGENET_MEAN), size, (classes,), madds)


class FromPixels(nn.Module):
    """A torchvision network that takes uint8 (N, H, W, 3)."""

    def __init__(self, name: str):
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN))
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD))
        network = torchvision.models.get_model(name, weights=None)
        # As initialised, values would vanish on their way through the network; statistics of a
        # batch keep them in the range that a trained network's have.
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = None
            network.train()(torch.randn(8, 3, 224, 224))
        self.network = fuse(network.eval()).to(memory_format=torch.channels_last)
        self.eval()  # all of it: the exporter puts everything back into the mode of the whole

    mean: Tensor
    std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 1000)."""
        logits: Tensor = self.network(((images - self.mean) / self.std).permute(0, 3, 1, 2))
        return logits


def torchvision_madds(name: str) -> int:
    """As torchvision publishes them."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    return round(weights.meta["_ops"] * 1e9)


def torchvision_onnx(network: FromPixels) -> bytes:
    """The network as PyTorch exports it."""
    example = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        warnings.simplefilter("ignore")  # the exporter that needs no package of its own is old
        torch.onnx.export(
            network,
            (example,),
            str(path),
            dynamo=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        )
        return path.read_bytes()
