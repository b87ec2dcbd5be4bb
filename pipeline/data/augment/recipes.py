"""What happens to a picture on its way in, when training and, without chance, evaluating."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from dsnet.errors import InputError
from pipeline.config.recipe import OwnRecipe, RandAugment


class Numbers(NamedTuple):
    """What the decoder does, in a form that numba compiles: all of one type in each field."""

    smallest: float
    """Smallest part of the picture's area for a random crop."""
    largest: float
    """Largest part; 0: no random crop."""
    narrowest: float
    """Width / height of the narrowest random crop."""
    widest: float
    """Width / height of the widest random crop."""
    shift: float
    """Largest shift each way, as a fraction of the side."""
    flip: bool
    """Mirror half of the pictures."""
    crop: float
    """Side of the middle square, as a fraction of the picture's shorter side."""
    native: bool
    """The picture's own pixels: nothing is resized."""
    anywhere: bool
    """A native square at a random place, turned and mirrored at random; else in the middle."""
    shuffle_channels: bool
    """Red, green and blue in any order."""


@dataclass(frozen=True)
class Recipe:
    """How a picture of any size becomes one of the network's resolution.

    Training with `scale`: a random part of the picture, resized (Inception's crop). Without: as in
    evaluation, then shifted by up to `shift` of the side, black where nothing is, in whole pixels
    of the network's input. Then flipped left to right every other time if `flip`. With `native`: a
    square of as many of the picture's own pixels as the network sees, at a random place, turned and
    mirrored at random (one of eight ways); in evaluation the one in the middle, as it is. Then its
    channels in any order if `shuffle_channels`. That is the decoder's; what follows is computed on
    the device that trains (`pipeline/data/augment`), in the order of the fields.
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
    native: bool = False
    """The picture's own pixels: nothing is resized."""
    shuffle_channels: bool = False
    """Red, green and blue in any order."""
    color_jitter: float = 0.0
    """How far from 1 the factors of brightness, contrast and saturation go."""
    randaugment: RandAugment | None = None
    """Operations drawn for each picture."""
    random_erasing: float = 0.0
    """Share of the pictures in which a rectangle is erased."""
    mixup: float = 0.0
    """Alpha of mixup, where a stage mixes; 0: none."""
    cutmix: float = 0.0
    """Alpha of CutMix, where a stage mixes; 0: none."""

    def numbers(self, train: bool) -> Numbers:
        """The recipe as the decoder reads it."""
        smallest, largest = self.scale if train and self.scale is not None else (0.0, 0.0)
        narrowest, widest = self.ratio
        return Numbers(
            smallest=float(smallest),
            largest=float(largest),
            narrowest=float(narrowest),
            widest=float(widest),
            shift=float(self.shift if train else 0.0),
            flip=self.flip and train,
            crop=float(self.crop),
            native=self.native,
            anywhere=self.native and train,
            shuffle_channels=self.shuffle_channels and train,
        )

    @property
    def augments(self) -> bool:
        """Whether something of it is left for the device, beside mixing."""
        return bool(self.color_jitter or self.randaugment or self.random_erasing)

    @property
    def mixes(self) -> bool:
        """Whether it mixes pictures, where a stage does."""
        return bool(self.mixup or self.cutmix)


_IMAGENET = Recipe("imagenet", scale=(0.08, 1.0), flip=True, crop=0.875)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        _IMAGENET,
        Recipe("cifar", shift=4 / 32, flip=True),  # pad 4 of 32 and crop
        Recipe("light", flip=True),  # for few epochs: pictures that are centred, and no shifts
        Recipe("digits", shift=1 / 8),  # one pixel of the scan; a mirrored digit is another sign
        replace(
            _IMAGENET,
            name="paper",
            color_jitter=0.4,
            # As timm's rand-m9-mstd0.5, whose operations are carried out every other time.
            randaugment=RandAugment(magnitude_std=0.5, probability=0.5),
            random_erasing=0.2,
        ),
        Recipe("evaluation", crop=0.875),
        Recipe("patches", flip=True, native=True, shuffle_channels=True),
    )
}


def get_recipe(recipe: str | OwnRecipe | Mapping[str, Any]) -> Recipe:
    """The recipe of that name, or the one that a mapping makes of its base.

    Raises InputError if there is none of that name.
    """
    if isinstance(recipe, Mapping):
        recipe = OwnRecipe.model_validate(recipe)
    if isinstance(recipe, OwnRecipe):
        given = {name: getattr(recipe, name) for name in recipe.model_fields_set - {"base"}}
        return replace(RECIPES[recipe.base], name=str(recipe), **given)
    if recipe not in RECIPES:
        raise InputError(f"recipe: expected one of {', '.join(RECIPES)}, found {recipe!r}")
    return RECIPES[recipe]


def plain(recipe: str | OwnRecipe) -> str | dict[str, Any]:
    """As JSON has it: `get_recipe` reads it back."""
    return recipe if isinstance(recipe, str) else recipe.model_dump()
