"""An exported file compared with its model: its outputs, its routes, its multiply-adds."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from dsnet.inference.fold import device_of
from dsnet.inference.images import normalize
from dsnet.inference.onnx_backend import OnnxBackend
from dsnet.models.network import DSNet
from dsnet.models.width import Width
from dsnet.nn.gate import pick
from dsnet.nn.look import forbid

TOLERANCE = 1e-3
_MOVES = 64  # by which a choice is tried


@torch.no_grad()
def compare(
    model: DSNet,
    path: Path,
    *,
    width: int | Width | None = None,
    tolerance: float = TOLERANCE,
    batches: tuple[int, ...] = (0, 1, 5),
) -> None:
    """Run an exported file and the model on random images; raise RuntimeError if they differ.

    Outputs may differ by `tolerance` times the largest of them or one, whichever is more. A choice
    may come out the other way only if such a difference in what it looks at decides it.
    """
    backend = OnnxBackend(path, threads=1)
    training = model.training
    model.eval()
    try:
        for images, price in _random(model, batches):
            logits, widths, madds = backend(images, price)
            price = model.metadata.price if price is None else price
            x = normalize(images, model.metadata.mean, model.metadata.std)
            x = x.to(device_of(model))
            if width is None:
                _compare_routes(model, x, price, widths, madds, tolerance)
            for chosen in widths.unique().tolist():
                rows = widths == chosen
                expected = model(x[rows], width=chosen if width is None else width).cpu()
                error = float((logits[rows] - expected).abs().max())
                if not error <= tolerance * max(1.0, float(expected.abs().max())):
                    raise RuntimeError(f"the exported file's outputs differ by {error:.2g}")
    finally:
        model.train(training)


def _compare_routes(
    model: DSNet, x: Tensor, price: float, widths: Tensor, madds: Tensor, tolerance: float
) -> None:
    if not len(x):
        return
    _, wanted, counts = (each.cpu() for each in model.routed(x, price))
    for row in ((wanted != widths) | (counts != madds)).nonzero()[:, 0].tolist():
        if _is_clear(model, x[row : row + 1], price, tolerance):
            raise RuntimeError(
                f"the exported file sends an image to width {int(widths[row])} at "
                f"{int(madds[row]):,} multiply-adds, the model to {int(wanted[row])} at "
                f"{int(counts[row]):,}"
            )


def _random(model: DSNet, batches: tuple[int, ...]) -> Iterator[tuple[Tensor, float | None]]:
    """Images and prices: contrasts of all kinds; no price, 0, and two that lead to either end."""
    generator = torch.Generator().manual_seed(0)
    size = model.metadata.resolution
    # Where outputs are pictures, they are of any size: odd ones too, and unlike ones.
    more = {batches[-1]: (size - 1, size // 2 + 1)} if model.head.factor else {}
    for count in batches:
        height, width = more.get(count, (size, size))
        noise = torch.randint(0, 256, (count, height, width, 3), generator=generator)
        dim = torch.linspace(0.1, 1, count)[:, None, None, None]
        images = (noise * dim).to(torch.uint8)
        for price in (None, 0.0, 1e4, -1e4):
            yield images, price


def _is_clear(model: DSNet, image: Tensor, price: float, noise: float) -> bool:
    """Whether no choice for one image (1, 3, H, W) is a close one.

    None is if every gate and every look picks the same when what it looks at moves: each value of
    a gate's feature by `noise` of itself, each of a look's evidence by as much, or by `noise` where
    that is more.
    """
    generator = torch.Generator(image.device).manual_seed(0)
    clear = True

    def picked(
        head: torch.nn.Module, seen: Tensor, size: Tensor, cost: Tensor, first: int = 0
    ) -> int:
        nonlocal clear
        moves = torch.randn(_MOVES, seen.shape[1], generator=generator, device=image.device)
        moves[0] = 0
        choices = pick(forbid(head(seen + noise * moves * size), first) - price * cost)
        clear &= bool((choices == choices[0]).all())
        return int(choices[0])

    path: tuple[int, ...] = ()
    x, at = image, 0
    for gate, cost, entries in zip(
        model.gates, model.gate_costs(image.device), model.space.choices, strict=True
    ):
        x, reduced = model.segment(len(path), x, model.space.along(path))
        assert reduced is not None and gate.slimming is not None
        at = picked(gate.slimming, reduced, reduced, cost)
        path += (entries[at],)
    if model.looks is None:
        return clear
    evidence, costs = model.task.evidence(), model.look_costs(image.device)
    assert evidence is not None
    before = -1
    while before < at < len(model.looks):
        seen = evidence(model.tail(x, image, model.space[model.space.routes[at]]))
        size = seen.abs().clamp(min=1)
        before, at = at, picked(model.looks[at], seen, size, costs[at], at)
    return clear
