"""Operations on batches of pictures, each picture with a strength of its own.

torchvision's functions take one strength for a whole batch, so that theirs are used where there is
none to take; tests hold the others to torchvision's, picture by picture. Arithmetic is such that a
picture comes out the same in every batch and by any number of threads: elementwise, or in whole
numbers.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Operation = Callable[[Tensor, Tensor], Tensor]
"""Pictures, uint8 (n, 3, H, W), and numbers for each, float32 (n, PARAMETERS), to pictures."""
PARAMETERS = 6


def grouped(
    images: Tensor, kinds: np.ndarray, numbers: np.ndarray, operations: Sequence[Operation]
) -> Tensor:
    """Each picture by the operation of its kind.

    images: uint8 (N, 3, H, W). kinds: int (N,), of `operations`; -1: as it is. numbers: (N, up to
    PARAMETERS), each operation's own. What is done is queued on the device without waiting for it.
    """
    order = np.argsort(kinds, kind="stable")
    ends = np.searchsorted(kinds[order], np.arange(-1, len(operations)), side="right")
    if ends[0] == len(order):
        return images

    def on_device(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(images.device, non_blocking=True)

    moved = on_device(numbers[order].astype(np.float32))
    # By kind, so that each operation has a slice, whose ends are known without asking the device.
    by_kind = images.index_select(0, on_device(order))
    for operation, first, end in zip(operations, ends[:-1], ends[1:], strict=True):
        if end > first:
            by_kind[first:end] = operation(by_kind[first:end], moved[first:end])
    return by_kind.index_select(0, on_device(np.argsort(order)))


def brightness(images: Tensor, numbers: Tensor) -> Tensor:
    """Times the first number."""
    return _blend(images, torch.zeros((), device=images.device), numbers)


def contrast(images: Tensor, numbers: Tensor) -> Tensor:
    """About the mean of its grey."""
    grey = _grey(images)
    mean = grey.sum((1, 2, 3), dtype=torch.int64) / grey[0].numel()
    return _blend(images, mean.float()[:, None, None, None], numbers)


def saturation(images: Tensor, numbers: Tensor) -> Tensor:
    """About its grey."""
    return _blend(images, _grey(images), numbers)


def sharpness(images: Tensor, numbers: Tensor) -> Tensor:
    """About itself smoothed by 3x3 pixels, of which the middle one counts five times."""
    x = images.to(torch.int16)
    rows = x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * x[..., 1:-1, 1:-1]
    smooth = x.clone()  # edges stay
    smooth[..., 1:-1, 1:-1] = (2 * sums + 13) // 26  # of 13, rounded
    return _blend(images, smooth, numbers)


def posterize(images: Tensor, numbers: Tensor) -> Tensor:
    """The first number says how many bits are kept."""
    mask = 256 - 2 ** (8 - numbers[:, 0])
    return images & mask.to(torch.uint8)[:, None, None, None]


def solarize(images: Tensor, numbers: Tensor) -> Tensor:
    """Inverted from the first number on."""
    return torch.where(images >= numbers[:, :1, None, None], 255 - images, images)


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Each channel from 0 to 255."""
    from torchvision.transforms.v2 import functional

    stretched: Tensor = functional.autocontrast(images)
    return stretched


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Each channel's values spread evenly."""
    from torchvision.transforms.v2 import functional

    spread: Tensor = functional.equalize(images)
    return spread


def affine(images: Tensor, numbers: Tensor) -> Tensor:
    """Moved: numbers (a, b, c, d, e, f) say that what is seen at (x, y) was at (ax + by + c,
    dx + ey + f), in pixels from the upper left corner; the nearest pixel, black outside.
    """
    count, channels, height, width = images.shape
    a, b, c, d, e, f = (number[:, None, None] for number in numbers.unbind(1))
    x = torch.arange(width, device=images.device) + 0.5
    y = torch.arange(height, device=images.device)[:, None] + 0.5
    column = (a * x + b * y + c).floor().long()
    row = (d * x + e * y + f).floor().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    places = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    places = places.flatten(1)[:, None].expand(count, channels, height * width)
    return images.flatten(2).gather(2, places).view_as(images) * inside[:, None]


def _grey(images: Tensor) -> Tensor:
    """uint8 (n, 1, H, W)."""
    from torchvision.transforms.v2 import functional

    grey: Tensor = functional.rgb_to_grayscale(images)
    return grey


def _blend(images: Tensor, other: Tensor, numbers: Tensor) -> Tensor:
    """`other` where the first number is 0, the picture where it is 1, and past it beyond that."""
    factors = numbers[:, 0, None, None, None]
    # Two products and a sum, each rounded: what fuses them may do so for some pixels alone.
    mixed = images * factors
    mixed += other * (1 - factors)
    return mixed.round_().clamp_(0, 255).to(torch.uint8)
