"""What several workers agree on: gradients, in pieces and once a step; all else in one call."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET_BYTES = 4 << 20


class GradientReducer:
    """Averages gradients over all workers while the last backward pass of a step still runs.

    A step of stage I sums up several backward passes, and only the last completes a gradient. Armed
    before it (`bootstrap_step(..., reducer=reducer)` does so), each gradient joins its bucket as
    soon as it is accumulated, and a full bucket is on its way while the pass goes on; `finish`
    waits. So the parameters' bytes are reduced once for each optimizer step, however many backward
    passes or micro-batches it sums up; all micro-batches but the last run without `reducer`.

    The values are those of `average_gradients`: with two workers bit for bit, for a sum of two has
    one order. One worker has nothing to do.

    parameters: of one dtype and device, in the same order on every worker; those that need no
    gradient are passed over. bucket_bytes: what is sent at a time. The process group must be there.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], bucket_bytes: int = BUCKET_BYTES):
        learning = [p for p in parameters if p.requires_grad]
        members = buckets_of(learning, bucket_bytes) if _several_workers() else ()
        self._buckets = [_Bucket(bucket) for bucket in members]
        self._armed = False
        self._sent = 0
        for bucket in self._buckets:
            for parameter in bucket.members:
                parameter.register_post_accumulate_grad_hook(self._hook(bucket))

    def arm(self) -> None:
        """From here to `finish`, what is accumulated into a parameter completes its gradient."""
        self._armed, self._sent = True, 0
        for bucket in self._buckets:
            bucket.complete = set()

    def finish(self) -> None:
        """Return when every gradient is its mean over all workers; without `arm`, all go now.

        A parameter without a gradient has none on any worker, and stays so.
        """
        if not self._armed:
            self.arm()
        self._send(self._buckets[self._sent :])
        self._armed = False
        for bucket in self._buckets:
            bucket.finish()

    def _hook(self, bucket: "_Bucket") -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            if not self._armed:
                return
            if parameter in bucket.complete:
                raise RuntimeError(
                    "a gradient grew after it was sent: arm before the last backward pass of a step"
                )
            bucket.complete.add(parameter)
            # In one order on all workers, as collectives must be.
            while self._sent < len(self._buckets) and self._buckets[self._sent].full:
                self._send([self._buckets[self._sent]])

        return hook

    def _send(self, buckets: list["_Bucket"]) -> None:
        for bucket in buckets:
            bucket.send()
        self._sent += len(buckets)


@dataclass(eq=False)
class _Bucket:
    """Parameters whose gradients travel together."""

    members: list[nn.Parameter]
    complete: set[Tensor] = field(default_factory=set)

    @property
    def full(self) -> bool:
        return len(self.complete) == len(self.members)

    def send(self) -> None:
        self._gradients = [p.grad for p in self.members if p.grad is not None]
        self._work: dist.Work | None = None
        if self._gradients:
            self._flat = _flat(self._gradients)
            self._work = dist.all_reduce(self._flat, async_op=True)

    def finish(self) -> None:
        if self._work is not None:
            self._work.wait()
            _share_out(self._flat, self._gradients)
        del self._gradients, self._work


def buckets_of(
    learning: Sequence[nn.Parameter], bucket_bytes: int = BUCKET_BYTES
) -> Iterator[list[nn.Parameter]]:
    """What travels together, in the order of leaving: as much as `bucket_bytes`, or one that has
    more. Backward passes complete the last parameters first.
    """
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in reversed(learning):
        if bucket and size + parameter.nbytes > bucket_bytes:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.nbytes
    if bucket:
        yield bucket


def _several_workers() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over all workers; nothing to do for one worker."""
    average([p.grad for p in parameters if p.grad is not None])


def average(tensors: list[Tensor]) -> None:
    """Replace tensors of one dtype by their means over all workers, in place, in one call."""
    if not tensors or not dist.is_available() or not dist.is_initialized():
        return
    flat = _flat(tensors)
    dist.all_reduce(flat)
    _share_out(flat, tensors)


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _share_out(flat: Tensor, tensors: list[Tensor]) -> None:
    """Write sums over all workers back, as means."""
    flat /= dist.get_world_size()
    parts = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [p.view_as(t) for p, t in zip(parts, tensors, strict=True)])


def total(counts: Tensor) -> Tensor:
    """The sum of `counts` over all workers, in place."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts)
    return counts


def total_each(tensors: Sequence[Tensor], device: torch.device) -> None:
    """Replace each of `tensors` by its sum over all workers, in place: one call for each dtype.

    device: where the workers' calls run; the tensors may be elsewhere.
    """
    if not _several_workers():
        return
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):  # in one order everywhere
        members = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = total(_flat(members).to(device))
        parts = flat.split([tensor.numel() for tensor in members])
        for tensor, part in zip(members, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def least(values: Tensor) -> Tensor:
    """The element-wise least of `values` over all workers, in place."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values, dist.ReduceOp.MIN)
    return values
