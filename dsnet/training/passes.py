"""The forward passes that a step of stage I is made of: as they are, or compiled."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable

import torch
from torch import Tensor

from dsnet.errors import InputError
from dsnet.models.network import DSNet
from dsnet.models.width import Width


class Passes:
    """A network's passes, as it makes them itself."""

    def __init__(self, model: DSNet) -> None:
        self.model = model

    def whole(self, images: Tensor, width: Width) -> Tensor:
        """images: (N, 3, H, W) -> outputs (N, …) of one sub-network."""
        outputs: Tensor = self.model(images, width=width)
        return outputs

    def prefix(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W) -> the output of segment 0 at the width all sub-networks share."""
        return self.model.segment(0, images, self.model.space[0])[0]

    def tail(self, x: Tensor, images: Tensor, width: Width) -> Tensor:
        """What `prefix` returned of images -> outputs (N, …) of one sub-network."""
        return self.model.tail(x, images, width)


class CompiledPasses(Passes):
    """The same by torch.compile: for each width one graph of each segment, made at its first use.

    A graph holds sizes and mode of that use: `model` is to be always in training mode, or always
    in eval mode without gradients. Batches of other sizes, such as an epoch's last, run as they
    are, so that no graph is compiled again. So does the head, whose dropout is then the same.
    Parameters, buffers and their names are the model's own.

    batch_size: images in the batches that run compiled.
    """

    def __init__(self, model: DSNet, batch_size: int) -> None:
        super().__init__(model)
        self.batch_size = batch_size
        self._graphs: dict[tuple[int, Width], Callable[[Tensor], Tensor]] = {}

    def whole(self, images: Tensor, width: Width) -> Tensor:
        return self.tail(self._segment(0, images, width), images, width)

    def prefix(self, images: Tensor) -> Tensor:
        return self._segment(0, images, self.model.space[0])

    def tail(self, x: Tensor, images: Tensor, width: Width) -> Tensor:
        for segment in range(1, len(self.model.architecture.gates) + 1):
            x = self._segment(segment, x, width)
        return self.model.answer(x, images, width)

    def _segment(self, segment: int, x: Tensor, width: Width) -> Tensor:
        if len(x) != self.batch_size:
            return self.model.segment(segment, x, width)[0]
        graph = self._graphs.get((segment, width))
        if graph is None:
            graph = self._graphs[segment, width] = _compiled(
                lambda x: self.model.segment(segment, x, width)[0]
            )
        return graph(x)


def _compiled(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """With graphs of its own: functions that share a code object share its graphs otherwise."""
    compiled: Callable[[Tensor], Tensor] = torch.compile(  # type: ignore[call-overload]
        function,
        fullgraph=True,
        dynamic=False,
        isolate_recompiles=True,  # which torch's overloads leave out
    )
    return compiled


def prepare_compiler(device: torch.device) -> None:
    """Make torch.compile ready in this process. Raises InputError if it does not work here.

    What it generates lies in a folder of this process's own, unless TORCHINDUCTOR_CACHE_DIR names
    one. In the folder that torch would share, what a killed process had half compiled is there for
    good, and taken for whole by all that come later.
    """
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="dsnet-compile-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        _compiled(lambda x: x.sin() + 1)(torch.zeros(64, device=device))
    except Exception as error:  # of any kind: what the compilers of a machine may come to
        found, *_ = (line for line in f"{error}".splitlines() if line.strip())
        needs = (
            "Triton and a C compiler" if device.type == "cuda" else "a C++ compiler (g++, or CXX)"
        )
        raise InputError(
            f"supernet.compile: expected {needs} on every machine that trains, found {found}; "
            "install it, or set supernet.compile to false"
        ) from error
