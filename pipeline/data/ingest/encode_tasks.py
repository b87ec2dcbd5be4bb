"""Pictures encoded on every CPU of a Ray cluster, for the one process that writes them."""

from collections import deque
from collections.abc import Generator
from typing import Any

import cv2
import ray
from ray.exceptions import RayTaskError

from dsnet.errors import InputError
from pipeline.data.ingest.encode import Encoded, Encoder

_PART = 128  # pictures that a node is asked for at once
_AHEAD = 2  # parts of each actor that are under way, which bounds the memory


class _Encoding:
    """An actor that encodes on one CPU of some node; on another, should that one be lost."""

    def __init__(self, encoder: Encoder, fingerprint: str) -> None:
        cv2.setNumThreads(1)  # the one CPU that it has asked for
        self._encoder = encoder
        self._same = encoder.source.fingerprint() == fingerprint

    def part(self, start: int, stop: int) -> list[Encoded | InputError]:
        """The pictures from `start` to before `stop`."""
        if not self._same:
            source, node = self._encoder.source.name, ray.util.get_node_ip_address()
            raise InputError(
                f"source {source}: expected the same files on every node of the cluster, found "
                f"others on {node}; put them on storage that all share, or leave --tasks out"
            )
        return [self._encoder(index) for index in range(start, stop)]


def by_tasks(encoder: Encoder) -> Generator[Encoded | InputError, None, None]:
    """Every picture, encoded, in order, or why one cannot be used.

    Every node must see the source's files, and is held to their names, sizes and times. Raises
    InputError where one does not.
    """
    samples = len(encoder.source)
    cpus = int(ray.cluster_resources().get("CPU", 1))
    known, fingerprint = ray.put(encoder), encoder.source.fingerprint()
    count = max(1, min(cpus, -(-samples // _PART)))
    # Any: Ray's stubs take an actor's handle for the class.
    actor_class: Any = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)(_Encoding)
    actors = [actor_class.remote(known, fingerprint) for _ in range(count)]
    pending: deque[ray.ObjectRef[list[Encoded | InputError]]] = deque()
    try:
        for number, start in enumerate(range(0, samples, _PART)):
            actor = actors[number % count]
            pending.append(actor.part.remote(start, min(start + _PART, samples)))
            if len(pending) >= _AHEAD * count:
                yield from _got(pending.popleft())
        while pending:
            yield from _got(pending.popleft())
    finally:
        for actor in actors:
            ray.kill(actor)


def _got(part: "ray.ObjectRef[list[Encoded | InputError]]") -> list[Encoded | InputError]:
    try:
        return ray.get(part)
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
