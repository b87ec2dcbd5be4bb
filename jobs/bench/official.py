"""A step of stage I as the official code takes it, written from its description."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dsnet import DSNet, Width


class OfficialProcedure:
    """Four whole forward-backward passes, each with its own averaging over workers.

    The largest width learns from the labels, then every random width and last the smallest learn
    from the teacher's largest output. Each pass goes through DistributedDataParallel, which looks
    for the parameters that the width did not use and reduces all gradients; then the optimizer
    takes its step and the moving average follows tensor by tensor. Buffers are not broadcast: it is
    not charged with that. A process group must be there, of one worker or more.
    """

    def __init__(
        self,
        student: DSNet,
        teacher: DSNet,
        optimizer: torch.optim.Optimizer,
        *,
        ema: float,
        label_smoothing: float,
    ):
        self.student, self.teacher, self.optimizer = student, teacher, optimizer
        self.ema, self.label_smoothing = ema, label_smoothing
        self.parallel: nn.Module = DistributedDataParallel(
            student, find_unused_parameters=True, forward_sync_buffers=False
        )

    def step(
        self, images: Tensor, labels: Tensor, random_widths: Sequence[int]
    ) -> dict[str, Tensor]:
        """One batch, images (N, 3, H, W) and labels (N,): the detached losses, as those of
        `dsnet.training.bootstrap_step`."""
        self.optimizer.zero_grad()
        space = self.student.space
        with torch.no_grad():
            soft = self.teacher(images, width=space.largest).softmax(1)
        losses = {"largest": self._pass(images, space.largest, labels)}
        for index, width in enumerate(random_widths):
            losses[f"random_{index}"] = self._pass(images, space[width], soft)
        losses["smallest"] = self._pass(images, space[0], soft)
        self.optimizer.step()
        self._follow()
        return losses

    def _pass(self, images: Tensor, width: Width, targets: Tensor) -> Tensor:
        logits = self.parallel(images, width=width)
        smoothing = 0.0 if targets.is_floating_point() else self.label_smoothing
        loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def _follow(self) -> None:
        goals = self.student.state_dict()
        for name, value in self.teacher.state_dict().items():
            value.copy_(value * self.ema + (1 - self.ema) * goals[name])
