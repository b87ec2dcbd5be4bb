"""What a stage's result depends on, declared in the stage's own file."""

from dataclasses import dataclass

# What decides which pictures a stage sees, and how. Where the files lie, how many threads read them
# and how often is saved changes no result. The number of workers does: it is a factor of the batch.
PICTURES = ("data.recipe", "data.resolution", "data.max_resolution", "data.holdout", "seed")


@dataclass(frozen=True)
class Spec:
    """A stage, as far as a result of it is found again.

    The text of the code is no part of it: a mended comment must not train a network again.
    """

    name: str
    revision: int
    """Raised by hand when the stage would compute something else from the same inputs. A test runs
    every stage on a tiny input, and holds what comes out against the record of this revision."""
    fields: tuple[str, ...]
    """Fields and sections of the configuration that it reads, by dotted name."""
    unread: tuple[str, ...] = ()
    """Fields of those sections that change no result."""
