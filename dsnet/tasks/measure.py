"""What is measured of networks, and how its mean reads. No torch."""

from dataclasses import dataclass
from typing import Any, TypeVar, cast

Number = TypeVar("Number")


@dataclass(frozen=True)
class Measure:
    """One thing that is measured for each sample, and how its mean reads."""

    name: str
    """Its key in tables, metrics and JSON, an identifier."""
    title: str
    """For people."""
    share: bool = False
    """Whether a sample has it or not, so that the mean is a share, shown in percent."""
    unit: str = ""
    """Of what is no share."""
    rises: bool = True
    """Whether more is better."""
    digits: int = 2
    """Decimals that are shown."""

    def error(self, value: Number) -> Number:
        """What is to be as small as possible: the share without it, or what rises, negated."""
        number: Any = value
        if self.rises:
            number = 1 - number if self.share else -number
        return cast(Number, number)

    def of_error(self, error: Number) -> Number:
        """The inverse of `error`, which is its own."""
        return self.error(error)

    def text(self, value: float) -> str:
        """A value for people: `98.61%`, `31.42 dB`."""
        if self.share:
            return f"{value:.{self.digits}%}"
        return f"{value:.{self.digits}f} {self.unit}".rstrip()

    @property
    def steps(self) -> str:
        """What differences are counted in: percentage points, or its unit."""
        return "points" if self.share else self.unit

    def difference(self, value: float, digits: int | None = None) -> str:
        """A difference of two values with its sign, in `steps`: `+0.31`, `±0.00`."""
        scaled = 100 * value if self.share else value
        text = f"{abs(scaled):.{self.digits if digits is None else digits}f}"
        if float(text) == 0:
            return f"±{text}"
        return ("+" if scaled > 0 else "\N{MINUS SIGN}") + text


CLASSIFICATION = "classification"
"""Name of the task that networks are for where nothing else is said."""
TOP1, TOP5 = Measure("top1", "top-1", share=True), Measure("top5", "top-5", share=True)
"""What is measured of classifiers."""
DENOISE = "denoise"
PSNR, SSIM = Measure("psnr", "PSNR", unit="dB"), Measure("ssim", "SSIM", digits=4)
"""What is measured of denoisers."""
MEASURES: dict[str, tuple[Measure, ...]] = {CLASSIFICATION: (TOP1, TOP5), DENOISE: (PSNR, SSIM)}
"""Of the tasks that are always known, by name."""
