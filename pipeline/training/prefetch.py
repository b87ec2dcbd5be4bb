"""Batches copied to a GPU while the step before them runs on it."""

from collections.abc import Iterator

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


def prefetched(batches: Iterator[Pair], device: torch.device) -> Iterator[Pair]:
    """The same batches; on CUDA, what makes them is queued on another stream than the steps.

    The host asks for a batch as soon as it has queued the step before, so that its copy (from
    page-locked memory) and normalisation run while that step computes.
    """
    if device.type != "cuda":
        yield from batches
        return
    side = torch.cuda.Stream(device)
    while True:
        with torch.cuda.stream(side):
            pair = next(batches, None)
        if pair is None:
            return
        now = torch.cuda.current_stream(device)
        now.wait_stream(side)
        for tensor in pair:
            tensor.record_stream(now)  # its memory is not used again before that stream is done
        yield pair
