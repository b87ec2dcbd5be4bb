"""What a loader yields, and how it becomes inputs and targets on the device that trains."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from dsnet import normalize
from pipeline.data.augment.augmentation import Augmentation
from pipeline.data.augment.mixing import Mixing

if TYPE_CHECKING:
    from dsnet import DSNet


@dataclass(frozen=True)
class Batch:
    """Pictures that belong to the reader: nothing overwrites them later."""

    images: torch.Tensor
    """uint8 (N, H, W, 3), RGB."""
    labels: torch.Tensor
    """int64 (N,)."""
    indices: torch.Tensor
    """int64 (N,): sample numbers in the beton."""
    keys: torch.Tensor
    """int64 (N,): of the seed, epoch, view and sample, for what a task draws; without the seed in
    evaluation, so that every network is measured on the same."""
    augmentation: Augmentation | None = None
    """What the recipe has beyond the decoder, still to be done; None: nothing."""
    mixing: Mixing | None = None
    """How pictures and labels are mixed; None: they are not."""

    def on(self, device: torch.device) -> torch.Tensor:
        """The pictures on a device, uint8 (N, H, W, 3), with all of the recipe but the mixing."""
        images = self.images.to(device, non_blocking=True)
        if self.augmentation is None:
            return images
        return self.augmentation.of(images, self.indices.numpy())

    def pair(self, model: "DSNet", device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """The (inputs, targets) of `model.task`, on a device.

        For classification: normalised images (N, 3, H, W) and labels (N,), or where they are mixed
        probabilities (N, classes).
        """
        images = normalize(self.on(device), model.metadata.mean, model.metadata.std)
        labels = self.labels.to(device, non_blocking=True)
        if self.mixing is not None:
            classes = model.architecture.num_classes if model.task.labelled else None
            images, labels = self.mixing.of(images, labels, classes)
        return model.task.pair(images, labels, self.keys.to(device, non_blocking=True))
