"""A recipe's part on the device: colour jitter, RandAugment, erasing, in this order.

Every random number is a hash of (seed, epoch, view, sample) and its place, as the decoder's are, so
that a picture comes out the same in any batch, on any rank, and after a training was taken up
again. torch's generators are not touched.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.data.augment import color_jitter, erasing, randaugment
from pipeline.data.augment.recipes import Recipe
from pipeline.data.random_bits import uniforms
from pipeline.data.threads import torch_threads

# Pictures that a CPU takes at once: with 64 it is a third slower.
IN_CACHE = 16
# Places of the samples' random numbers; the decoder has those up to 47.
JITTER, ERASING, RANDAUGMENT = 64, 128, 256


@dataclass(frozen=True)
class Augmentation:
    """What is still to be done to the pictures of a batch."""

    recipe: Recipe
    keys: np.ndarray
    """Of the seed, epoch and view, see `random_key`: uint64 (N,), for each picture."""
    fill: tuple[float, float, float]
    """Colour of what is erased, from 0 to 1."""

    def of(self, images: Tensor, samples: np.ndarray) -> Tensor:
        """images: uint8 (N, S, S, 3); samples: their numbers, int64 (N,). The same shape again."""
        if images.device.type != "cpu":
            return self._of(images, samples, self.keys)
        parts = [slice(first, first + IN_CACHE) for first in range(0, len(images), IN_CACHE)]
        with torch_threads(1):  # on so small pieces a second one gains nothing and takes a core
            return torch.cat(
                [self._of(images[part], samples[part], self.keys[part]) for part in parts]
            )

    def _of(self, images: Tensor, samples: np.ndarray, keys: np.ndarray) -> Tensor:
        def drawn(first: int, count: int) -> np.ndarray:
            return uniforms(keys, samples, np.arange(first, first + count))

        recipe = self.recipe
        pictures = images.permute(0, 3, 1, 2).contiguous()  # several times as fast to pick from
        if recipe.color_jitter:
            random = drawn(JITTER, color_jitter.RANDOM)
            pictures = color_jitter.color_jitter(pictures, recipe.color_jitter, random)
        if recipe.randaugment is not None:
            count = recipe.randaugment.num_ops * randaugment.RANDOM
            random = drawn(RANDAUGMENT, count)
            pictures = randaugment.randaugment(pictures, recipe.randaugment, random)
        if recipe.random_erasing:
            random = drawn(ERASING, erasing.RANDOM)
            pictures = erasing.erase(pictures, recipe.random_erasing, self.fill, random)
        return pictures.permute(0, 2, 3, 1)
