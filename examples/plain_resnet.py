"""A small ResNet in plain PyTorch, trained for so many CPU seconds: a baseline for `dsnet run`.

    python examples/plain_resnet.py photos.yaml --seconds 300 --seed 0

photos.yaml is what dsnet init wrote: the same training and test pictures, resolution, crops, shifts
and mirroring. It trains on every training picture, batches of 32, SGD with Nesterov's momentum, one
cycle of the learning rate over the whole time, on one thread. It prints one line of JSON.
docs/own_pictures.md has the comparison.
"""

import argparse
import json
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnet.runtime.pictures import read_picture
from dsnet.runtime.pixels import prepare
from pipeline.config import load_config
from pipeline.data.augment.recipes import Recipe, get_recipe
from pipeline.data.sources.base import Source
from pipeline.data.sources.train_and_test import train_and_test

BATCH, LR, MOMENTUM, DECAY, SMOOTHING = 32, 0.1, 0.9, 1e-4, 0.1


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet(classes: int, side: int) -> nn.Sequential:
    """A stem and three blocks of 32, 64 and 128 channels; from 48 pixels on, the stem halves."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2 if side >= 48 else 1, 1, bias=False),
        *(nn.BatchNorm2d(32), nn.ReLU()),
        *(Block(32, 32, 1), Block(32, 64, 2), Block(64, 128, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes)),
    )


def pictures(source: Source, side: int) -> tuple[Tensor, Tensor]:
    """The middle square of each, uint8 (N, 3, side, side), and its label."""
    images = np.empty((len(source), side, side, 3), np.uint8)
    for index in range(len(source)):
        sample = source[index]
        pixels = sample.image
        if isinstance(pixels, bytes):
            pixels = read_picture(pixels, sample.path)
        images[index] = prepare(pixels[None], side, 1.0)[0]
    labels = torch.from_numpy(np.asarray(source.labels(), np.int64))
    return torch.from_numpy(images).permute(0, 3, 1, 2), labels


def augmented(images: Tensor, recipe: Recipe) -> Tensor:
    """Random crops or shifts, and mirrored where the recipe says so: float (N, 3, H, W)."""
    count, side = len(images), images.shape[-1]
    smallest = recipe.scale[0] if recipe.scale else 1.0
    size = torch.empty(count).uniform_(smallest, 1).sqrt()
    most = round(recipe.shift * side)
    pixels = torch.randint(-most, most + 1, (2, count)) * 2 / side
    place = (2 * torch.rand(2, count) - 1) * (1 - size) + pixels
    mirrored = torch.where(torch.rand(count) < 0.5 * recipe.flip, -1.0, 1.0)
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = size * mirrored, size
    affine[:, 0, 2], affine[:, 1, 2] = place
    grid = F.affine_grid(affine, (count, 3, side, side), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def one_cycle(share: float) -> float:
    """The learning rate after `share` of the time: up over 30% of it, then down to 0."""
    if share < 0.3:
        return LR / 25 + (LR - LR / 25) / 2 * (1 - math.cos(math.pi * share / 0.3))
    return LR / 2 * (1 + math.cos(math.pi * min(1.0, (share - 0.3) / 0.7)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--seconds", type=float, required=True, help="CPU seconds in all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    config = load_config(options.config)
    side, recipe = config.data.resolution, get_recipe(config.data.recipe)
    train, test = (pictures(source, side) for source in train_and_test(config.data))
    mean = (train[0] / 255.0).mean((0, 2, 3), keepdim=True)
    std = (train[0] / 255.0).std((0, 2, 3), keepdim=True)
    images, labels = (train[0] / 255.0 - mean) / std, train[1]
    model = resnet(int(labels.max()) + 1, side).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), LR, MOMENTUM, weight_decay=DECAY, nesterov=True, fused=True
    )
    steps, share = 0, 0.0
    while share < 1:
        for rows in torch.randperm(len(images)).split(BATCH):
            if len(rows) < min(BATCH, len(images)):
                continue  # statistics of a few pictures
            share = time.process_time() / options.seconds
            for group in optimizer.param_groups:
                group["lr"] = one_cycle(share)
            outputs = model(augmented(images[rows], recipe))
            loss = F.cross_entropy(outputs, labels[rows], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if share >= 1:
                break
    model.eval()
    with torch.inference_mode():
        inputs = ((test[0] / 255.0 - mean) / std).split(256)
        answers = torch.cat([model(batch).argmax(1) for batch in inputs])
    right = float((answers == test[1]).double().mean())
    print(json.dumps({"top1": right, "steps": steps, "cpu_seconds": time.process_time()}))


if __name__ == "__main__":
    main()
