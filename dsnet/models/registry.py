"""The families: each is a stem, a block, a head, a task and a table of architectures."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dsnet.errors import InputError
from dsnet.errors.text import shown
from dsnet.models import basic_resnet, denoiser, mbnet, resnet
from dsnet.models.architecture import Architecture
from dsnet.models.block import Block, Stem
from dsnet.models.head import Head, PooledLinear
from dsnet.tasks.base import Task
from dsnet.tasks.registry import CLASSIFICATION, DENOISE


@dataclass(frozen=True)
class Family:
    """What `DSNet` builds a network of, and what the network is for."""

    stem: type[Stem]
    block: type[Block]
    head: Callable[[tuple[int, ...], Architecture], Head] = PooledLinear
    task: Task = CLASSIFICATION
    dense: bool = False
    """Whether its convolutions larger than 1x1 mix channels, as depthwise ones do not."""


FAMILIES: dict[str, Family] = {}
ARCHITECTURES: dict[str, Architecture] = {}


def register(name: str, family: Family, architectures: Iterable[Architecture] = ()) -> None:
    """Make a family known, and its architectures to `create_model`.

    Raises InputError for a name that is taken, and for an architecture of another family.
    """
    added = {architecture.name: architecture for architecture in architectures}
    if taken := [name] * (name in FAMILIES) + sorted(added.keys() & ARCHITECTURES.keys()):
        raise InputError(f"register: expected names that are free, found {', '.join(taken)} taken")
    if strange := [a.name for a in added.values() if a.family != name]:
        raise InputError(
            f"register: expected architectures of the family {name}, found {', '.join(strange)}"
        )
    FAMILIES[name] = family
    ARCHITECTURES.update(added)


def family(name: str) -> Family:
    """The family of that name. Raises InputError if there is none."""
    if name not in FAMILIES:
        raise InputError(f"family must be one of {sorted(FAMILIES)}, found {shown(name)}")
    return FAMILIES[name]


register("mbnet", Family(mbnet.MBNetStem, mbnet.SeparableBlock), mbnet.ARCHITECTURES)
register("resnet", Family(resnet.ResNetStem, resnet.Bottleneck, dense=True), resnet.ARCHITECTURES)
register(
    "basic_resnet",
    Family(resnet.ResNetStem, basic_resnet.BasicBlock, dense=True),
    basic_resnet.ARCHITECTURES,
)
register(
    "denoiser",
    Family(denoiser.DenoiserStem, denoiser.DenoiserBlock, denoiser.Residue, DENOISE, dense=True),
    denoiser.ARCHITECTURES,
)
