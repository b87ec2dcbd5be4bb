"""All-reduce in closed form: what workers send, and how long it takes.

In a ring every worker passes on n - 1 shares of the sum, then n - 1 shares of the result, each of
size / n bytes (the factor 2 (n - 1) / n of NVIDIA's nccl-tests, doc/PERFORMANCE.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """What one worker sends through."""

    bytes_per_second: float
    latency_s: float
    """Of one message."""


def sent_by_each(size: float, workers: int) -> float:
    """Bytes that a worker sends; towards twice `size` with ever more workers, none with one."""
    return 2 * (workers - 1) / workers * size


def sent_by_all(size: int, workers: int) -> int:
    """Bytes that all workers send together."""
    return 2 * (workers - 1) * size


def rounds(workers: int) -> int:
    """Messages that must follow each other in a ring."""
    return 2 * (workers - 1)


def ring(size: float, workers: int, link: Link) -> float:
    """Seconds of one all-reduce of `size` bytes, each through a ring of `workers`."""
    wire = sent_by_each(size, workers) / link.bytes_per_second
    return wire + rounds(workers) * link.latency_s


def tree(size: float, workers: int, link: Link) -> float:
    """The same up and down a binary tree: twice the bytes, and the depth's messages twice."""
    if workers == 1:
        return 0.0
    return 2 * size / link.bytes_per_second + 2 * math.ceil(math.log2(workers)) * link.latency_s


def exposed(seconds: Sequence[float], hidden_by: float) -> float:
    """What a step waits at least for buckets that go one after another during a backward pass.

    seconds: of each bucket. hidden_by: of the backward pass. The last bucket has the gradients that
    are complete when the pass is over, so nothing hides it.
    """
    if not seconds:
        return 0.0
    return max(sum(seconds) - hidden_by, seconds[-1])
