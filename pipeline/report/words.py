"""How a measure is spoken of on the page."""

from dataclasses import dataclass

from dsnet.tasks.measure import Measure


@dataclass(frozen=True)
class Words:
    """The words of one measure."""

    title: str
    """As a sentence begins with it."""
    steps: str
    """What differences are counted in."""
    steps_of: str
    """The same, and of what."""
    heading: str
    """`steps` as a heading begins with it."""
    in_steps: str
    """`in dB `, or empty without a unit."""
    up: str
    """Where on the plot it is better."""
    over: str
    """Of a difference."""
    above: str
    """Of a difference, on the plot."""
    beyond: str
    """On which side of a line it is better."""
    under: str
    """On which side of a line there is room for more."""

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
