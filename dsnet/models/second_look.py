"""Running a network that looks again: tail after tail, each on the images that have come to it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dsnet.nn.gate import pick
from dsnet.nn.look import forbid


class Routed(NamedTuple):
    """What a network answers where it chooses."""

    outputs: Tensor
    """(N, …)."""
    widths: Tensor
    """Of the sub-network that answered, int64 (N,)."""
    madds: Tensor
    """Multiply-adds of everything that ran for each image, int64 (N,)."""


def run_tails(
    first: Tensor,
    outputs: Tensor,
    tail: Callable[[int, Tensor], Tensor],
    look: Callable[[int, Tensor], Tensor],
    prices: Tensor,
    prefix: int,
    tails: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Run the tails in the order of their widths, each once at most; fill `outputs` (N, …).

    first: the tail that each image runs first, int64 (N,), by its place among the routes.
    tail(t, rows) runs tail t on those images: rows int64 (n,) -> outputs (n, …). look(t, outputs)
    is what they conclude, logits (n, routes). prices: of each choice of each look, (routes,
    routes). prefix, tails: multiply-adds of what every image has run, and of each tail.
    Returns for each image the tail that answered, and the multiply-adds of all that ran: int64
    (N,) both.
    """
    # A tail that has run stays the next one (a look may pick itself, which is to stop), so that
    # after the last tail this says who answered.
    following = first.clone()
    madds = torch.full_like(following, prefix)
    # A look sends images to wider tails alone, so one pass in this order serves all: whoever comes
    # to a tail, from the gate or from any look before, is there when its turn has come.
    for position, count in enumerate(tails):
        rows = (following == position).nonzero()[:, 0]
        if not len(rows):
            continue
        answers = tail(position, rows)
        outputs[rows] = answers.to(outputs.dtype)
        madds[rows] += count
        if position < len(tails) - 1:
            scores = forbid(look(position, answers), position)
            following[rows] = pick(scores - prices[position])
    return following, madds
