"""The same pictures read by three readers: this project's, FFCV's own and torchvision's.

All give uint8 pictures of one size under the same random transform, in batches, shuffled, decoded
by two threads or processes. Each imports what it needs when it is made: what that takes is part of
a first batch's wait.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKERS = 2


@dataclass(frozen=True)
class Pictures:
    """One set of pictures in two forms, `beton` and class folders, and how to read it.

    recipe, resolution: as of `pipeline.data.loader.Loader`.
    """

    name: str
    recipe: str
    resolution: int
    beton: Path
    folder: Path
    batch_size: int


Epoch = Callable[[], Iterator[Any]]
"""One pass over the pictures; yields batches, uint8 tensors."""


def ours(pictures: Pictures) -> Epoch:
    """This project's loader."""
    from pipeline.data.loader import Loader

    loader = Loader(
        pictures.beton,
        batch_size=pictures.batch_size,
        recipe=pictures.recipe,
        train=True,
        resolution=pictures.resolution,
        threads=WORKERS,
    )
    return lambda: (batch.images for batch in loader.epoch(0))


def ffcv(pictures: Pictures) -> Epoch:
    """FFCV's loader, with its own decoders and its own memory manager."""
    import ffcv.loader.loader as module
    import torch
    from ffcv.fields import decoders
    from ffcv.transforms import RandomHorizontalFlip, RandomTranslate, Squeeze, ToTensor

    from pipeline.data.ffcv import OSCacheManager

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
    threads, manager = torch.get_num_threads(), module.OSCacheManager
    module.OSCacheManager = OSCacheManager  # where pipeline.data put one of its own
    try:
        loader = module.Loader(
            str(pictures.beton),
            batch_size=pictures.batch_size,
            num_workers=WORKERS,
            order=module.OrderOption.RANDOM,
            os_cache=True,
            drop_last=True,
            pipelines={
                "image": [*steps[pictures.recipe](), ToTensor()],
                "label": [decoders.IntDecoder(), ToTensor(), Squeeze()],
            },
        )
    finally:
        module.OSCacheManager = manager
        torch.set_num_threads(threads)  # FFCV leaves it at one
    return lambda: (images for images, _ in loader)


def torchvision(pictures: Pictures) -> Epoch:
    """torchvision's ImageFolder in torch's DataLoader, whose processes live on between epochs."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    side, padding = pictures.resolution, pictures.resolution // 8
    steps = {
        "imagenet": [v2.RandomResizedCrop(side), v2.RandomHorizontalFlip()],
        "cifar": [v2.RandomCrop(side, padding=padding), v2.RandomHorizontalFlip()],
        "digits": [v2.RandomCrop(side, padding=padding)],
    }
    transform = v2.Compose([*steps[pictures.recipe], v2.PILToTensor()])
    loader = DataLoader(
        ImageFolder(pictures.folder, transform=transform),
        batch_size=pictures.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    return lambda: (images for images, _ in loader)


READERS = {"ours": ours, "FFCV": ffcv, "torchvision": torchvision}
