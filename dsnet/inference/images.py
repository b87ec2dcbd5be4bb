"""From uint8 pictures to what the network takes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dsnet.errors import InputError


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in channels_last memory, on the same device.

    mean, std: per channel, of pixels scaled to [0, 1].
    """
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device)
    # NHWC viewed as NCHW is channels_last already: no pixel moves.
    return torch.addcmul(shift, images.to(torch.float32), scale).permute(0, 3, 1, 2)


def check_images(images: Tensor) -> None:
    """Raise InputError unless `images` are uint8 (N, H, W, 3), N of any size, none included."""
    shape = tuple(images.shape)
    if images.dim() != 4 or shape[3] != 3 or 0 in shape[1:]:
        hint = "; move the channels last" if images.dim() == 4 and shape[1] == 3 else ""
        raise InputError(f"images: expected shape (N, H, W, 3), found {shape}{hint}")
    if images.dtype != torch.uint8:
        raise InputError(
            f"images: expected uint8 pixels from 0 to 255, found {images.dtype}; normalising is "
            "part of the model"
        )


def middle_square(height: int, width: int, crop: float) -> tuple[int, int, int]:
    """(top, left, side) of the square in a picture's middle, `crop` of its shorter side.

    Python alone: the loader compiles it, so that what is trained, evaluated and predicted is cut
    by one rule.
    """
    side = max(1, int(crop * min(height, width)))
    return (height - side) // 2, (width - side) // 2, side


def prepare(images: Tensor, resolution: int, crop: float) -> Tensor:
    """uint8 (N, H, W, 3) -> uint8 (N, resolution, resolution, 3), as in evaluation.

    The middle square, `crop` of the shorter side, resized by area: each pixel is the mean of the
    part of the picture that it covers.
    """
    top, left, side = middle_square(images.shape[1], images.shape[2], crop)
    square = images[:, top : top + side, left : left + side]
    if side == resolution:
        return square.contiguous()
    weights = _coverage(side, resolution, images.device)
    rows = torch.einsum("ph,nhwc->npwc", weights, square.to(torch.float32))
    return torch.einsum("qw,npwc->npqc", weights, rows).round_().to(torch.uint8)


def _coverage(size: int, wanted: int, device: torch.device) -> Tensor:
    """How much of each of `wanted` equal parts of a line of `size` pixels each pixel makes up."""
    edges = torch.arange(wanted + 1, device=device, dtype=torch.float64) * (size / wanted)
    pixels = torch.arange(size, device=device)
    covered = torch.minimum(pixels + 1, edges[1:, None]) - torch.maximum(pixels, edges[:-1, None])
    return (covered.clamp_min(0) * (wanted / size)).to(torch.float32)
