"""How long a whole chain takes, and how many epochs of stage I fit into a given time."""

from bisect import bisect_right

from dsnet import DSNet
from pipeline.config import Config
from pipeline.runner.estimate.sizes import Sizes
from pipeline.runner.estimate.speed import Speed, always, seconds
from pipeline.runner.estimate.work import of_chain

VERSIONS = 3
"""What a chain registers: the supernet, the calibrated one, the gated network."""


def chain_seconds(config: Config, model: DSNet, sizes: Sizes, speed: Speed) -> float:
    """Seconds of a chain that ingests its data, trains its gate on a table, and finds nothing."""
    work = of_chain(config, model, sizes, by_table=True)
    rest = always(VERSIONS, sizes.train + sizes.test, speed.slowness)
    return sum(seconds(each, speed) for each in work) + sum(part.seconds for part in rest)


def epochs_within(
    limit: float, config: Config, model: DSNet, sizes: Sizes, speed: Speed
) -> tuple[int, float]:
    """The most epochs, up to the configuration's, of a chain of `limit` seconds; and its seconds.

    One epoch where not even that fits.
    """

    def taking(epochs: int) -> float:
        return chain_seconds(with_epochs(config, epochs), model, sizes, speed)

    fewer = range(2, config.supernet.epochs + 1)
    epochs = 1 + bisect_right(fewer, limit, key=taking)
    return epochs, taking(epochs)


def with_epochs(config: Config, epochs: int) -> Config:
    """`config` with another number of epochs of stage I."""
    supernet = config.supernet.model_copy(update={"epochs": epochs})
    return config.model_copy(update={"supernet": supernet})
