"""The same pictures read by several readers: this project's, FFCV's own and torchvision's.

All give uint8 pictures of one size under the same random transform, in batches, shuffled, decoded
by as many threads or processes. Each imports what it needs when it is made: what that takes is part
of a first batch's wait.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Pictures:
    """One set of pictures in two forms, and how to read it."""

    name: str
    recipe: str
    """As of `pipeline.data.loading.loader.Loader`, as the resolution."""
    resolution: int
    beton: Path
    folder: Path
    """Of class folders."""
    batch_size: int
    threads: int = 2
    """That decode; processes where those do."""


Epoch = Callable[[], Iterator[Any]]
"""One pass over the pictures; yields batches, uint8 tensors."""
Reader = Callable[[Pictures], Epoch]


def ours(pictures: Pictures) -> Epoch:
    """This project's loader."""
    loader = _loader(pictures, pictures.recipe)
    return lambda: (batch.images for batch in loader.epoch(0))


def augmented(pictures: Pictures) -> Epoch:
    """This project's loader with the paper's recipe, whose second part a CPU computes here.

    That is the caller's thread, next to those that decode.
    """
    import torch

    loader, device = _loader(pictures, "paper"), torch.device("cpu")
    return lambda: (batch.on(device) for batch in loader.epoch(0))


def _loader(pictures: Pictures, recipe: str) -> Any:
    from pipeline.data.loading.loader import Loader, LoaderOptions

    options = LoaderOptions(
        batch_size=pictures.batch_size,
        recipe=recipe,
        train=True,
        resolution=pictures.resolution,
        threads=pictures.threads,
    )
    return Loader(pictures.beton, options)


def ffcv(pictures: Pictures) -> Epoch:
    """FFCV's loader, with its own decoders and memory manager, as `pipeline.data.ffcv` mends it."""
    import ffcv.loader.loader as module
    from ffcv.fields import decoders
    from ffcv.transforms import RandomHorizontalFlip, RandomTranslate, Squeeze, ToTensor

    from pipeline.data.threads import torch_threads

    side, padding = pictures.resolution, pictures.resolution // 8
    steps = {
        "imagenet": lambda: [
            decoders.RandomResizedCropRGBImageDecoder((side, side)),
            RandomHorizontalFlip(),
        ],
        "cifar": lambda: [
            decoders.SimpleRGBImageDecoder(),
            RandomHorizontalFlip(),
            RandomTranslate(padding=padding),
        ],
        "digits": lambda: [decoders.SimpleRGBImageDecoder(), RandomTranslate(padding=padding)],
    }
    with torch_threads():  # FFCV leaves it at one
        loader = module.Loader(
            str(pictures.beton),
            batch_size=pictures.batch_size,
            num_workers=pictures.threads,
            order=module.OrderOption.RANDOM,
            os_cache=True,
            drop_last=True,
            pipelines={
                "image": [*steps[pictures.recipe](), ToTensor()],
                "label": [decoders.IntDecoder(), ToTensor(), Squeeze()],
            },
        )
    return lambda: (images for images, _ in loader)


def torchvision(pictures: Pictures) -> Epoch:
    """torchvision's ImageFolder in torch's DataLoader, whose processes live on between epochs."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    loader = DataLoader(
        ImageFolder(pictures.folder, transform=_transform(pictures)),
        batch_size=pictures.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=pictures.threads,
        persistent_workers=True,
    )
    return lambda: (images for images, _ in loader)


def _transform(pictures: Pictures) -> Any:
    from torchvision.transforms import v2

    side, padding = pictures.resolution, pictures.resolution // 8
    steps = {
        "imagenet": [v2.RandomResizedCrop(side), v2.RandomHorizontalFlip()],
        "cifar": [v2.RandomCrop(side, padding=padding), v2.RandomHorizontalFlip()],
        "digits": [v2.RandomCrop(side, padding=padding)],
    }
    return v2.Compose([*steps[pictures.recipe], v2.PILToTensor()])


READERS: dict[str, Reader] = {"ours": ours, "FFCV": ffcv, "torchvision": torchvision}
