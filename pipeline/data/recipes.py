"""What happens to a picture on its way in, when training and, without chance, evaluating."""

from dataclasses import dataclass

import numpy as np

from dsnet.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How a picture of any size becomes one of the network's resolution.

    Training with `scale`: a random part of the picture, resized (Inception's crop). Without: as in
    evaluation, then shifted by up to `shift` of the side, black where nothing is, in whole pixels
    of the network's input. Then flipped left to right every other time if `flip`.
    Evaluating: the middle square, `crop` of the shorter side, resized. Nothing random.
    """

    name: str
    scale: tuple[float, float] | None = None
    """Smallest and largest part of the picture's area."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Narrowest and widest shape (width / height) of that part."""
    shift: float = 0.0
    """Largest shift each way, as a fraction of the side."""
    flip: bool = False
    """Mirror half of the pictures."""
    crop: float = 1.0
    """Side of the middle square in evaluation, as a fraction of the picture's shorter side."""

    def numbers(self, train: bool) -> np.ndarray:
        """The recipe as the decoder reads it, float64 (7,): scale, ratio, shift, flip, crop."""
        scale = self.scale if train and self.scale is not None else (0.0, 0.0)
        shift, flip = (self.shift, float(self.flip)) if train else (0.0, 0.0)
        return np.array([*scale, *self.ratio, shift, flip, self.crop])


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("imagenet", scale=(0.08, 1.0), flip=True, crop=0.875),
        Recipe("cifar", shift=4 / 32, flip=True),  # pad 4 of 32 and crop
        Recipe("light", flip=True),  # for few epochs: pictures that are centred, and no shifts
        Recipe("digits", shift=1 / 8),  # one pixel of the scan; a mirrored digit is another sign
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises InputError if there is none."""
    if name not in RECIPES:
        raise InputError(f"recipe: expected one of {', '.join(RECIPES)}, found {name!r}")
    return RECIPES[name]
