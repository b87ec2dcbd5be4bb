"""The losses of stage I for people: of which width, and against what."""

from collections.abc import Mapping
from dataclasses import dataclass

from dsnet.models.create import task_of
from pipeline.config import Config

_WIDTHS = {"largest": "widest", "smallest": "slimmest"}
# A teacher that knows less than the width makes room for the labels (`guarded`).
_TEACHERS = {
    "labels": "labels",
    "distill": "own widest or labels",
    "plain": "teacher or labels",
    "ensemble": "teacher or labels",
}


@dataclass(frozen=True)
class Against:
    """What widths learn from: losses against different targets are not to be compared."""

    widest: str = "labels"
    slim: str = "teacher or labels"

    @classmethod
    def of(cls, config: Config) -> "Against":
        """By supernet.bootstrap, in words of the architecture's task."""
        truth = "labels" if task_of(config.model.arch).labelled else "targets"
        return cls(truth, _TEACHERS[config.supernet.bootstrap].replace("labels", truth))

    def named(self, figures: Mapping[str, float]) -> dict[str, float]:
        """`{"smallest": 0.5}` -> `{"loss slimmest (labels)": 0.5}`; other names stay."""
        return {self._name(name): value for name, value in figures.items()}

    def in_words(self, losses: Mapping[str, float]) -> str:
        """`loss 0.498 widest (labels), 0.512 slimmest (labels)`; of one width the first alone."""
        return "loss " + ", ".join(
            f"{losses[name]:.3f} {self._name(name).removeprefix('loss ')}"
            for name in _WIDTHS
            if name in losses
        )

    def _name(self, name: str) -> str:
        if name not in _WIDTHS and not name.startswith("random_"):
            return name
        target = self.widest if name == "largest" else self.slim
        return f"loss {_WIDTHS.get(name, name)} ({target})"
