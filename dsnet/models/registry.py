"""The families: each is a stem, a block and a table of architectures."""

from dataclasses import dataclass

from dsnet.errors import InputError
from dsnet.models import mbnet, resnet
from dsnet.models.architecture import Architecture
from dsnet.models.block import Block, Stem


@dataclass(frozen=True)
class Family:
    """What `DSNet` builds a network of."""

    stem: type[Stem]
    block: type[Block]


FAMILIES = {
    "mbnet": Family(mbnet.MBNetStem, mbnet.SeparableBlock),
    "resnet": Family(resnet.ResNetStem, resnet.Bottleneck),
}
ARCHITECTURES: dict[str, Architecture] = {
    a.name: a for a in (*mbnet.ARCHITECTURES, *resnet.ARCHITECTURES)
}


def family(name: str) -> Family:
    """The family of that name. Raises InputError if there is none."""
    if name not in FAMILIES:
        raise InputError(f"family must be one of {sorted(FAMILIES)}, found {name!r}")
    return FAMILIES[name]
