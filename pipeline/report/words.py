"""How a measure is spoken of on the page."""

from dataclasses import dataclass

from dsnet.tasks.measure import Measure


@dataclass(frozen=True)
class Words:
    """The words of one measure.

    title: as a sentence begins with it. steps: what differences are counted in; steps_of: the same,
    of what; heading: steps as a heading begins with them; in_steps: `in dB `, or empty without one.
    up: where on the plot it is better. over, above: of a difference; beyond, under: on which side
    of a line it is better, and on which there is room for more.
    """

    title: str
    steps: str
    steps_of: str
    heading: str
    in_steps: str
    up: str
    over: str
    above: str
    beyond: str
    under: str

    @classmethod
    def of(cls, measure: Measure) -> "Words":
        """Those of one that rises or falls, with a unit or without."""
        title, steps = measure.title, measure.steps
        rising = ("Up", "over", "above", "above", "under")
        falling = ("Down", "against", "against", "below", "above")
        return cls(
            sentence(title),
            steps or title,
            f"{steps} of {title}" if steps else title,
            "Points"
            if measure.share
            else steps or sentence(title),  # a unit stays as it is written: dB
            f"in {steps} " if steps else "",
            *(rising if measure.rises else falling),
        )


def sentence(title: str) -> str:
    """A title as a sentence begins with it."""
    return title[:1].upper() + title[1:]
