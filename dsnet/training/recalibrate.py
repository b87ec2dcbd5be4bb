"""Recalibration: the running statistics of every width, recomputed as plain averages."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dsnet.models.network import DSNet
from dsnet.nn.layers import BATCHNORM_MOMENTUM, SlimBatchNorm2d
from dsnet.training.distributed import total


@torch.no_grad()
def recalibrate(model: DSNet, batches: Iterable[Tensor]) -> int:
    """Replace the running statistics of every sub-network by averages over `batches`.

    batches: normalised images, float (N, 3, H, W). Each layer is normalised by the batch's own
    statistics, as in training; its mean is the average of its input over all images, its variance
    the unbiased one over all images. Where torch.distributed runs, every worker brings its own
    batches and all end with the same statistics, each image weighing the same. Returns the number
    of images, over all workers: 0 for a network without BatchNorm, for which none is read. The
    model is left in the mode it was in.

    The largest width takes part up to the first gate only. Behind it, it shares its statistics with
    the widest sub-network, which sees other inputs, the slim prefix's: averaged over both they fit
    neither, and nothing is routed to the largest.
    """
    layers = [m for m in model.modules() if isinstance(m, SlimBatchNorm2d)]
    if not layers:
        return 0
    # Rows: sum of x, sum of x * x, number of values; each laid out as the running statistics.
    moments = {
        layer: layer.running_mean.new_zeros(3, layer.running_mean.numel(), dtype=torch.float64)
        for layer in layers
    }

    def clear(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, SlimBatchNorm2d)
        for statistics in layer.statistics(inputs[0].shape[1]):
            statistics.zero_()

    def collect(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        """What one update makes of zeros is momentum times the batch's own statistics."""
        assert isinstance(layer, SlimBatchNorm2d)
        channels = inputs[0].shape[1]
        mean, unbiased = (s.double() / BATCHNORM_MOMENTUM for s in layer.statistics(channels))
        count = inputs[0].numel() // channels
        var = unbiased * (count - 1) / count
        start = layer.start(channels)
        rows = moments[layer][:, start : start + channels]
        rows += torch.stack([mean, var + mean**2, torch.ones_like(mean)]) * count

    training = model.training
    hooks = [layer.register_forward_pre_hook(clear) for layer in layers]
    hooks += [layer.register_forward_hook(collect) for layer in layers]
    model.train()
    images = 0
    try:
        for batch in batches:
            images += len(batch)
            _run_every_subnetwork(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    seen = total(torch.tensor([images], device=next(model.buffers()).device))
    _write(layers, total(torch.cat([rows.flatten() for rows in moments.values()])))
    return int(seen)


def _run_every_subnetwork(model: DSNet, images: Tensor) -> None:
    """Forward at every sub-network, what they share computed once."""
    if not model.architecture.gates:
        for width in model.space:
            model(images, width=width)
        return
    model.segment(0, images, model.space.largest)
    for _ in model.walk(images, model.every_entry):
        pass


def _write(layers: list[SlimBatchNorm2d], everything: Tensor) -> None:
    sizes = [3 * layer.running_mean.numel() for layer in layers]
    for layer, flat in zip(layers, everything.split(sizes), strict=True):
        values, squares, count = flat.view(3, -1)
        seen = count > 0
        mean = values / count
        var = (squares / count - mean**2).clamp_min(0) * count / (count - 1).clamp_min(1)
        layer.running_mean.copy_(torch.where(seen, mean, layer.running_mean))
        layer.running_var.copy_(torch.where(seen, var, layer.running_var))
