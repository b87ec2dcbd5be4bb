"""A stage: what its result depends on, what its loop is given, and the loop."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from pipeline.config import Config
from pipeline.data.manifest import Beton
from pipeline.store.fingerprint import Spec
from pipeline.training.worker import Worker

if TYPE_CHECKING:  # it brings every source of data, for which workers have no use
    from pipeline.data.dataset import Dataset

T = TypeVar("T")


@dataclass(frozen=True)
class Stage(Generic[T]):
    """What the workers of a stage do, for a driver to find it done before or to run it.

    A stage that makes a version of a model reports with its last checkpoint `evaluation`, the
    counts of an `Evaluation`, and writes the model directory `model` into it.
    """

    spec: Spec
    inputs: type[T]
    """What the loop reads in addition to the configuration: a frozen dataclass that pickles."""
    loop: Callable[[Worker, T], None]
    gated: bool = False
    """Whether its model is registered as a gated network, by the chain's name, or as a supernet."""


@dataclass(frozen=True)
class Upstream:
    """What a driver has for a stage of a chain."""

    config: Config
    dataset: "Dataset"
    parent: Path | None = None
    """Model directory of the version before; None for the first stage."""
    start: Path | None = None
    """Model directory that the first stage starts from (`supernet.from`); None: from nothing."""

    @property
    def model(self) -> Path:
        """Model directory of the version before. Raises ValueError where there is none."""
        if self.parent is None:
            raise ValueError("this stage takes a model, and cannot be the first of a chain")
        return self.parent


@dataclass(frozen=True)
class OnModel:
    """What a stage reads that takes a model and the training images."""

    train: Beton
    """The training images' beton."""
    model: Path
    """Model directory of the version before."""

    @classmethod
    def of(cls, upstream: Upstream) -> Self:
        """The training images, and the model that is upstream."""
        return cls(upstream.dataset.train.place, upstream.model)


class FromUpstream(Protocol):
    """Inputs that follow from what is upstream, as those of a stage of the chain do."""

    @classmethod
    def of(cls, upstream: Upstream) -> Self:
        """The inputs of the stage that comes next."""
        ...


Inputs = TypeVar("Inputs", bound=FromUpstream)
