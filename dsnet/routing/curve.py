"""Reading calibrated curves backwards: which gate and which price meet a budget. No torch.

A curve is (price, average multiply-adds per image) by rising price, and averages fall along it.
"""

import bisect
from collections.abc import Sequence


def price_at(prices: Sequence[tuple[float, float]], madds: float) -> float:
    """The price at which a curve's average is `madds`; of its ends for what lies beyond them."""
    rising = prices[::-1]  # search wants averages rising
    if madds >= rising[-1][1]:
        return rising[-1][0]
    index = bisect.bisect_left([average for _, average in rising], madds)
    if index == 0:
        return rising[0][0]
    (price_below, below), (price_above, above) = rising[index - 1], rising[index]
    share = (madds - below) / (above - below)
    return price_below + share * (price_above - price_below)


def nearest(targets: Sequence[float], madds: float) -> tuple[int, bool]:
    """The gate to take for a budget, the one that was trained nearest to it.

    And whether it was trained for this very budget: its own price meets that, and not one read off
    its curve.
    """
    index = min(range(len(targets)), key=lambda index: abs(targets[index] - madds))
    return index, abs(targets[index] - madds) < 1
