"""One question to every node of the Ray cluster that this process is part of."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ANSWERS_S = 60.0
"""That a node has: a process is started there."""

T = TypeVar("T")
Node = dict[str, Any]
"""A row of `ray.nodes()`."""


def at_work() -> list[Node]:
    """The nodes that have CPUs, and so take work."""
    return [each for each in ray.nodes() if each["Alive"] and each["Resources"].get("CPU")]


def ask(
    nodes: Sequence[Node], question: Callable[..., T], *arguments: object
) -> list[tuple[Node, T | None]]:
    """What `question(*arguments)` returns on each node; None where there was no answer in time.

    question: defined within a function, so that it travels by value and imports what it needs:
    nodes need not have this project yet.
    """
    task: Any = ray.remote(num_cpus=0, max_retries=1)(question)
    asked = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked.append(task.options(scheduling_strategy=there).remote(*arguments))
    ready, _ = ray.wait(asked, num_returns=len(asked), timeout=ANSWERS_S)
    return [
        (node, _answer(answer) if answer in ready else None)
        for node, answer in zip(nodes, asked, strict=True)
    ]


def _answer(answer: Any) -> Any:
    try:
        return ray.get(answer)
    except RayTaskError:  # what the question itself raised
        raise
    except RayError:  # the node is lost
        return None
