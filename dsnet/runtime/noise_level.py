"""How noisy a picture is, by itself; in NumPy."""

import numpy as np

BAND = 256  # rows at once
NORMAL = 0.6745  # median of a standard normal number's magnitude


def noise_level(picture: np.ndarray) -> float:
    """The standard deviation of Gaussian noise in a picture, uint8 (H, W, 3), of 255.

    The median magnitude of the finest diagonal Haar coefficients over that of a standard normal
    number (Donoho and Johnstone, Ideal spatial adaptation by wavelet shrinkage, 1994, section 4.2):
    fine texture counts as noise.
    """
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    counts = np.zeros(2 * 255 + 1, np.int64)  # of twice the magnitudes, which are whole numbers
    for top in range(0, height, BAND):
        x = picture[top : min(top + BAND, height), :width].astype(np.int16)
        diagonal = x[::2, ::2] - x[1::2, ::2] - x[::2, 1::2] + x[1::2, 1::2]
        counts += np.bincount(np.abs(diagonal).ravel(), minlength=len(counts))
    up_to, total = np.cumsum(counts), counts.sum()
    middle = np.searchsorted(up_to, [(total - 1) // 2, total // 2], side="right")
    return float(middle.mean() / 2 / NORMAL)
