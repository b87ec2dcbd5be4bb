"""Which network suits which pictures: a table, read from the top."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.data.survey import Survey

SMALL = 64  # pixels of the shorter side: up to there a picture is no photograph
MIDDLING = 160  # up to there it would have to be enlarged for a network of 224 pixels
FEW = 20_000  # photographs: a large network learns as many by heart


@dataclass(frozen=True)
class Kind:
    """Pictures of one kind, and what does well on such."""

    fits: Callable[[Survey], bool]
    recipe: str
    recipe_why: str
    resolution: int
    max_resolution: int
    arch: str
    arch_why: str
    images: int
    """Training images that stage I is to see, each as often as that comes to."""
    from_paper: bool = False
    """Whether stage I is the paper's; else it is what few epochs on two cores gain by."""


PHOTOGRAPHS = "photographs: random parts of each, half of them mirrored"

KINDS = (
    Kind(
        fits=lambda found: found.side <= 12,
        recipe="digits",
        recipe_why="shifts of a pixel and nothing mirrored: so small a picture is often a sign",
        resolution=8,
        max_resolution=16,
        arch="ds_mbnet_digits",
        arch_why="made for 8 pixels",
        images=30_000,
    ),
    Kind(
        fits=lambda found: found.side <= SMALL and found.grey == 1,
        recipe="digits",
        recipe_why="small shifts and nothing mirrored, as for letters; light mirrors, for things",
        resolution=28,
        max_resolution=56,
        arch="ds_resnet12_mnist",
        arch_why="made for 28 grey pixels, where less computing makes as much",
        images=100_000,
    ),
    Kind(
        fits=lambda found: found.side <= SMALL,
        recipe="cifar",
        recipe_why="small shifts, half of them mirrored; digits mirrors nothing, for letters",
        resolution=32,
        max_resolution=64,
        arch="ds_resnet12_cifar",
        arch_why="made for 32 pixels; ds_mbnet_cifar multiplies less and wants more epochs",
        images=40_000,
    ),
    Kind(
        fits=lambda found: found.side <= MIDDLING or found.pictures < FEW,
        recipe="imagenet",
        recipe_why=PHOTOGRAPHS,
        resolution=64,
        max_resolution=128,
        arch="ds_resnet12_cifar",
        arch_why="a small network; the large one is ds_mbnet at 224 pixels, for more photographs "
        "than these or with supernet.from",
        images=20_000,
    ),
    Kind(
        fits=lambda found: True,
        recipe="imagenet",
        recipe_why=PHOTOGRAPHS,
        resolution=224,
        max_resolution=400,
        arch="ds_mbnet",
        arch_why="the paper's, for 224 pixels",
        images=5_000_000,
        from_paper=True,
    ),
)


def kind_of(found: Survey) -> Kind:
    """The first kind that these pictures fit."""
    return next(kind for kind in KINDS if kind.fits(found))
