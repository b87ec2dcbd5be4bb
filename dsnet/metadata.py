"""What a model knows of its images and classes besides its weights."""

from dataclasses import dataclass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Prices = tuple[tuple[float, float], ...]
"""A calibrated curve: (price, average multiply-adds per image), by rising price."""


@dataclass(frozen=True)
class Metadata:
    """How to prepare an image for the model and how to name what it answers.

    resolution: height and width of the model's input, in pixels.
    mean, std: per channel, of pixels scaled to [0, 1].
    crop: side of the middle square that is resized to it, as a fraction of the shorter side.
    classes: names in label order; empty when they are not known.
    prices: the curve of the gates in place, as `dsnet.budget` calibrates it; empty when they are
        not calibrated.
    price: what multiply-adds cost, in units of logits, where nobody asks for another budget: the
        price that meets the target the gates were trained for; 0 where they had none.
    """

    resolution: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    classes: tuple[str, ...] = ()
    crop: float = 1.0
    prices: Prices = ()
    price: float = 0.0
