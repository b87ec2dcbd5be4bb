"""What every section of the configuration is, and types that several of them have."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
# Strict tuples refuse lists, and YAML knows only lists.
FROM_LIST = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
Span = Annotated[tuple[Positive, Positive], FROM_LIST]
"""The smallest and the largest of what may be either, or anything between."""


class Section(BaseModel):
    """Frozen, strict, and closed to unknown fields."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )
