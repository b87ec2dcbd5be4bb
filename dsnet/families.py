"""The families: each is a stem, a block and a table of architectures."""

from dataclasses import dataclass

from dsnet import mbnet
from dsnet.architecture import Architecture
from dsnet.block import Block, Stem


@dataclass(frozen=True)
class Family:
    """What `DSNet` builds a network of."""

    stem: type[Stem]
    block: type[Block]


FAMILIES = {"mbnet": Family(mbnet.MBNetStem, mbnet.SeparableBlock)}
ARCHITECTURES: dict[str, Architecture] = {a.name: a for a in (*mbnet.ARCHITECTURES,)}
