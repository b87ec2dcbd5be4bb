"""Structural similarity of pictures."""

import torch
import torch.nn.functional as F
from torch import Tensor

DEVIATION, RADIUS = 1.5, 5  # of the Gaussian window, 11 x 11 pixels
K1, K2 = 0.01, 0.03


def ssim(pictures: Tensor, others: Tensor) -> Tensor:
    """SSIM (Wang et al., Image Quality Assessment, 2004) of pictures of 0 to 1: float32 (N,).

    pictures, others: (N, C, H, W), H and W of 11 pixels or more. Averaged over channels and over
    all places where the window lies within the picture.
    """
    pictures, others = pictures.float(), others.float()
    means = [_windowed(each) for each in (pictures, others)]
    first, second, both = (
        _windowed(a * b) - mean_a * mean_b
        for a, b, mean_a, mean_b in (
            (pictures, pictures, means[0], means[0]),
            (others, others, means[1], means[1]),
            (pictures, others, *means),
        )
    )
    c1, c2 = K1**2, K2**2
    alike = (2 * means[0] * means[1] + c1) * (2 * both + c2)
    apart = (means[0] ** 2 + means[1] ** 2 + c1) * (first + second + c2)
    return (alike / apart).mean((1, 2, 3))


def _windowed(x: Tensor) -> Tensor:
    """The Gaussian window's weighted mean around each pixel that has all of it."""
    places = torch.arange(-RADIUS, RADIUS + 1, device=x.device, dtype=torch.float32)
    window = (-(places**2) / (2 * DEVIATION**2)).exp()
    window /= window.sum()
    planes = x.flatten(0, 1)[:, None]
    rows = F.conv2d(planes, window[None, None, :, None])
    return F.conv2d(rows, window[None, None, None, :]).unflatten(0, x.shape[:2])[:, :, 0]
