"""DS-MBNet with random weights, and images that its gate sends where a benchmark wants them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dsnet
from dsnet import DSNet, Predictor
from dsnet.training import recalibrate

POOL = 256  # images to choose from
SIZE = 224


@dataclass(frozen=True)
class Mix:
    """Which sub-networks a gate may choose, and how many of 32 images it sends to each."""

    name: str
    routes: tuple[int, ...]
    counts: tuple[int, ...]

    def shares(self) -> dict[int, float]:
        """Share of the images at each sub-network."""
        total = sum(self.counts)
        return {r: c / total for r, c in zip(self.routes, self.counts, strict=True)}


# The paper's S and M: a few neighbours, averaging 153M and 200M multiply-adds.
EVEN = Mix("even", (1, 5, 9, 13), (8, 8, 8, 8))
SMALL = Mix("S", (0, 1, 2, 3), (14, 9, 6, 3))
MEDIUM = Mix("M", (2, 3, 4, 5), (12, 11, 6, 3))


@dataclass(frozen=True)
class Routed:
    """A network, and for each of its routes images, uint8 (n, 224, 224, 3), that go there."""

    mix: Mix
    model: DSNet
    images: dict[int, Tensor]

    def uniform(self, route: int, count: int) -> Tensor:
        """`count` images that all go to `route`."""
        images = self.images[route]
        return images[torch.arange(count) % len(images)]

    def mixed(self) -> Tensor:
        """32 images in the proportions of the mix, shuffled."""
        parts = [self.uniform(r, c) for r, c in zip(self.mix.routes, self.mix.counts, strict=True)]
        images = torch.cat(parts)
        return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]

    def madds(self) -> float:
        """Average of the mix."""
        return sum(share * self.model.madds(r) for r, share in self.mix.shares().items())


def routed(mix: Mix) -> Routed:
    """A network for `mix`, whose gate is undecided on average, and images for each of its routes.

    Raises RuntimeError if no image of the pool goes to one of the routes.
    """
    torch.manual_seed(0)
    model = dsnet.create_model("ds_mbnet", routes=mix.routes)
    pool = blotches(POOL)
    x = dsnet.normalize(pool[:16], model.metadata.mean, model.metadata.std)
    recalibrate(model, [x])
    model.eval()
    undecided(model, pool)
    found = [Predictor(model, backend=backend)(pool)[1] for backend in ("torch", "onnxruntime")]
    # Where rounding decides, the backends may differ: such images are left out.
    images = {route: pool[(found[0] == route) & (found[1] == route)] for route in mix.routes}
    if missing := [route for route, group in images.items() if not len(group)]:
        raise RuntimeError(f"none of {POOL} images goes to sub-networks {missing}")
    return Routed(mix, model, images)


def blotches(count: int) -> Tensor:
    """Coloured blotches, uint8 (count, 224, 224, 3)."""
    coarse = torch.rand(count, 3, 7, 7) * torch.rand(count, 3, 1, 1)
    images = F.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")
    return (255 * images).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@torch.no_grad()
def undecided(model: DSNet, pool: Tensor) -> None:
    """A random slimming head in which no route is ahead on average."""
    x = dsnet.normalize(pool[:64], model.metadata.mean, model.metadata.std)
    reduced = model.segment(0, x, model.space[0])[1]
    head = model.gates[0].slimming
    assert reduced is not None and isinstance(head, nn.Linear)
    mean = reduced.mean(0)
    weight = torch.randn_like(head.weight)
    weight -= torch.outer(weight @ mean, mean) / mean.square().sum()
    head.weight.copy_(weight / (reduced @ weight.T).std(0, keepdim=True).T)
