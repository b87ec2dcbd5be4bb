"""data.recipe: the name of a recipe, or one with its own values in place of a named one's."""

from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from pipeline.config import dialect
from pipeline.config.section import FROM_LIST, NotNegative, Positive, Section, Share

RecipeName = Literal["digits", "light", "cifar", "imagenet", "paper", "evaluation", "patches"]
Pair = Annotated[
    tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]],
    FROM_LIST,
]


class RandAugment(Section):
    """RandAugment (Cubuk et al. 2020): operations drawn for each picture, all of one strength."""

    num_ops: Positive = 2
    """Operations in a row."""
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    """Strength of each, of 10, as the paper and timm count it (torchvision counts to 30)."""
    magnitude_std: NotNegative = 0.0
    """Standard deviation of the strength, drawn anew for each operation: timm's mstd."""
    probability: Share = 1.0
    """Share of the drawn operations that are carried out: all (1.0), or half of them as timm does
    (0.5)."""


def _without_defaults(schema: dict[str, Any]) -> None:
    for field in schema["properties"].values():
        field.pop("default", None)


class OwnRecipe(Section):
    """A custom recipe: what is not given is as in the recipe named `base`."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    base: RecipeName
    """Recipe that all else is taken from."""
    scale: Pair | None = None
    """Smallest and largest part of the picture's area that a random crop shows, such as
    [0.08, 1.0]; null: no random crop, but the middle square."""
    ratio: Pair = (3 / 4, 4 / 3)
    """Narrowest and widest shape (width / height) of that part."""
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest shift each way, as a fraction of the side, where there is no random crop."""
    flip: bool = False
    """Mirror half of the pictures."""
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Side of the middle square in evaluation, as a fraction of the picture's shorter side."""
    shuffle_channels: bool = False
    """Red, green and blue of each picture in any order, as patches have them: for few pictures,
    which have few colours."""
    color_jitter: Share = 0.0
    """Brightness, contrast and saturation, each by a factor from 1 - this to 1 + this; 0: none."""
    randaugment: RandAugment | None = None
    """Operations drawn by RandAugment, with num_ops, magnitude, magnitude_std and probability;
    null: none."""
    random_erasing: Share = 0.0
    """Share of the pictures in which a rectangle, 2% to a third of the area, is erased."""
    mixup: NotNegative = 0.0
    """Alpha of mixup in stage I: two pictures are mixed in the shares lambda and 1 - lambda,
    lambda from Beta(alpha, alpha); 0: no mixup."""
    cutmix: NotNegative = 0.0
    """Alpha of CutMix in stage I: a rectangle of 1 - lambda of the area is of another picture;
    with mixup too, each batch has one of both; 0: no CutMix."""

    @field_validator("scale", "ratio")
    @classmethod
    def _rises(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"expected the smaller number first, found {list(value)}")
        return value

    @field_validator("scale")
    @classmethod
    def _is_a_part(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[1] > 1:
            raise ValueError(f"expected parts of the picture, up to 1, found {list(value)}")
        return value

    @model_validator(mode="after")
    def _leaves_pixels_as_they_are(self) -> "OwnRecipe":
        others = {"scale", "ratio", "shift", "crop"} & self.model_fields_set
        if self.base == "patches" and others:
            raise ValueError(
                f"expected without {', '.join(sorted(others))}, for patches are cut out of a "
                "picture and nothing is resized"
            )
        return self

    @model_serializer
    def _given(self) -> dict[str, Any]:
        """What was given: fields that come later leave what a recipe was called as it is."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            name: value.model_dump() if isinstance(value, Section) else _plain(value)
            for name, value in given.items()
            if name in self.model_fields_set
        }

    def __str__(self) -> str:
        """One line of YAML."""
        return dialect.dump_line(self.model_dump())


# How errors tell the two apart; no field has such a name.
MAPPING, NAME = "a mapping", "a name"
RecipeField = Annotated[
    Annotated[RecipeName, Tag(NAME)] | Annotated[OwnRecipe, Tag(MAPPING)],
    Discriminator(lambda value: MAPPING if isinstance(value, dict | OwnRecipe) else NAME),
]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
