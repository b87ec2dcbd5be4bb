"""Running a network that looks again: tail after tail, each on the images that have come to it."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dsnet.nn.gate import pick
from dsnet.nn.look import forbid

if TYPE_CHECKING:
    from dsnet.models.network import DSNet


class Routed(NamedTuple):
    """What a network answers where it chooses.

    outputs: (N, …). widths: of the sub-network that answered, int64 (N,). madds: multiply-adds of
    everything that ran for each image, int64 (N,).
    """

    outputs: Tensor
    widths: Tensor
    madds: Tensor


def look_again(model: "DSNet", images: Tensor, price: float, outputs: Tensor) -> Routed:
    """Run the prefix once, and the tails in the order of their widths, each once at most.

    The gate says which tail an image runs first. What a tail concludes says whether the image
    stops there, or which wider one it runs next; it joins the images that came to that one by
    another way. images: normalised float (N, 3, H, W). outputs: (N, …), which is filled.
    """
    evidence, looks = model.task.evidence(), model.looks
    assert evidence is not None and looks is not None
    x, reduced = model.segment(0, images, model.space[0])
    size = (images.shape[2], images.shape[3])
    assert reduced is not None
    (cost,) = model.gate_costs(images.device)
    costs = model.look_costs(images.device)
    following = pick(model.gates[0].logits(reduced) - cost * price)
    widths = torch.empty_like(following)
    madds = torch.full_like(following, model.prefix_madds(size))
    for position, route in enumerate(model.space.routes):
        rows = (following == position).nonzero()[:, 0]
        if not len(rows):
            continue
        answers = model.tail(x[rows], images[rows], model.space[route])
        outputs[rows] = answers.to(outputs.dtype)
        widths[rows] = route
        madds[rows] += model.tail_madds(route, size)
        if position < len(looks):
            scores = forbid(looks[position](evidence(answers)), position)
            following[rows] = pick(scores - costs[position] * price)
    return Routed(outputs, widths, madds)
