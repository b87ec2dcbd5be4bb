"""What to spend on an image: queue and latency in, a budget out; no clock, no Ray."""

from dataclasses import dataclass

HIGH = 0.6  # of the latency to hold: from here on the budget falls
LOW = 0.4  # below it for a while, the budget may rise; between the two it stays
ROOM = 0.85  # of the replicas' time, which the next higher budget may take at most
STEP = 1.15  # by which it rises
CUT = 0.4  # to which it falls at most in one look
CALM_S = 0.5  # of low pressure before a rise, and at least half of the latency to hold


@dataclass(frozen=True)
class Goal:
    """
    p99: seconds within which 99 of 100 images are to be answered.
    most, least: budgets, average multiply-adds per image, between which the policy may move.
    """

    p99: float
    most: float
    least: float

    def __post_init__(self) -> None:
        if not self.p99 > 0 or not 0 < self.least <= self.most:
            raise ValueError(f"expected p99 > 0 and 0 < least <= most, found {self}")


@dataclass(frozen=True)
class Load:
    """What was seen since the last look.

    waiting: images that no replica has begun. seconds: that all replicas together take for one more
    image at the present budget. arrivals: images per second. slowest: seconds that the slowest of
    the images answered since then took; 0 where there was none.
    """

    waiting: int
    seconds: float
    arrivals: float
    slowest: float


class Policy:
    """Lowers the budget at once when latency nears its goal, raises it in steps when it is calm.

    Falling asks what the last image in the queue will have waited, since that is known before any
    latency is. Rising asks in addition whether the replicas have room for the higher budget:
    without that it would rise into an overload whenever a lower one had emptied the queue.
    """

    def __init__(self, goal: Goal):
        self.goal = goal
        self.budget = goal.most
        self._cut = self._calm = float("-inf")  # when it last fell; since when it is calm

    def cut(self, asked: float | None) -> float | None:
        """What to spend where `asked` is wanted (None: `goal.most`): the same share for everyone.

        At least `goal.least`, unless less is wanted; all of it where the budget is at its most.
        """
        goal = self.goal
        if self.budget >= goal.most:
            return asked
        wanted = goal.most if asked is None else asked
        return min(wanted, max(goal.least, wanted * self.budget / goal.most))

    def look(self, now: float, load: Load) -> float:
        """The budget from `now` on, seconds of a steady clock. Several looks per `p99`."""
        goal = self.goal
        pressure = max(load.waiting * load.seconds, load.slowest) / goal.p99
        if pressure >= LOW:
            self._calm = now
        if pressure >= HIGH and now - self._cut >= goal.p99 / 4:
            # What was answered since the last cut may have waited before it: hence the pause.
            self._cut = now
            self.budget = max(goal.least, self.budget * max(CUT, HIGH / pressure / STEP))
        elif now - self._calm >= max(CALM_S, goal.p99 / 2):
            higher = min(goal.most, self.budget * STEP)
            # Time per image grows by less than multiply-adds do: part of it is no network.
            if load.arrivals * load.seconds * higher / self.budget <= ROOM:
                self.budget = higher
                self._calm = now
        return self.budget
