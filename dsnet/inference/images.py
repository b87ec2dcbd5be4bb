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
