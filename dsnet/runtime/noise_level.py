"""How noisy a picture is, by itself; in NumPy."""

import numpy as np

NORMAL = 0.6745  # median of a standard normal number's magnitude


def noise_level(picture: np.ndarray) -> float:
    """The standard deviation of Gaussian noise in a picture, uint8 (H, W, 3), of 255.

    The median magnitude of the finest diagonal Haar coefficients over that of a standard normal
    number (Donoho and Johnstone, Ideal spatial adaptation by wavelet shrinkage, 1994, section 4.2):
    fine texture counts as noise.
    """
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    x = picture[:height, :width].astype(np.float32)
    diagonal = (x[::2, ::2] - x[1::2, ::2] - x[::2, 1::2] + x[1::2, 1::2]) / 2
    return float(np.median(np.abs(diagonal)) / NORMAL)
