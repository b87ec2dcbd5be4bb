"""What in a source's pictures will hurt a training, for people."""

from collections.abc import Iterator

from pipeline.data.sources.walk import listed
from pipeline.data.suggest.kinds import kind_of
from pipeline.data.suggest.survey import Survey

FEW_OF_CLASS = 10
FEW = 1_000
UNEQUAL = 10  # times as many pictures of one class as of another


def doubts(found: Survey) -> Iterator[str]:
    """One sentence for each thing that will hurt, and what helps."""
    if found.unreadable:
        yield (
            f"{len(found.unreadable)} of the {found.sampled} pictures looked at cannot be used "
            f"({listed(found.unreadable, most=2)}); a handful is left out and listed; mend or "
            "remove more, or allow them with data.max_bad"
        )
    few = [f"{name} ({count})" for name, count in found.counts.items() if count < FEW_OF_CLASS]
    if few:
        yield (
            f"{len(few)} of {len(found.counts)} classes have fewer than {FEW_OF_CLASS} pictures to "
            f"train on, too few to learn: {listed(few)}; add pictures, or leave these classes out"
        )
    names = sorted(found.counts, key=lambda name: found.counts[name])
    least, most = found.counts[names[0]], found.counts[names[-1]]
    if most >= UNEQUAL * max(least, 1):
        yield (
            f"the classes are unequal, from {least:,} pictures ({names[0]}) to {most:,} "
            f"({names[-1]}): an average over all says little of the small ones; look at each with "
            "dsnet report, and try data.sampling: balanced"
        )
    if found.pictures < FEW:
        yield (
            f"{found.pictures:,} pictures to train on are few: expect little, and start from "
            "trained weights where there are some (supernet.from)"
        )
    if found.grey == 1:
        yield "the pictures are grey: each is read as three equal channels"
    elif found.grey > 0:
        yield (
            f"{found.grey:.1%} of the pictures looked at are grey and the others in colour: where "
            "that goes with the class, a network learns the colours in place of the things"
        )
    kind = kind_of(found)
    if kind.from_paper:
        yield (
            f"{found.pictures:,} photographs at {kind.resolution} pixels want GPUs "
            "(cluster.gpus_per_worker); on processors alone try a smaller data.resolution"
        )
    if found.side < kind.resolution:
        yield (
            f"the pictures are smaller ({found.side} pixels, the middle one) than the network's "
            f"{kind.resolution} and are enlarged"
        )
