"""Folders that every node of a cluster must see as this process does, looked at before a training.

A node that has another folder under the same name would train on other data, or leave its
checkpoints where no other finds them; both are seen only hours later.
"""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsnet.errors import InputError
from dsnet.errors.text import escaped
from pipeline.cluster.nodes import ANSWERS_S, Node, ask, at_work

logger = logging.getLogger(__name__)


def check_shared(storage: Path, betons: Path | None) -> None:
    """Raise InputError unless every node that takes work shares both folders with this process.

    storage: every node must find a file there that is written here, and may write one. betons:
    every node must find those that lie here, as large as here; None: they are in a store. Looked
    at are the nodes that have CPUs, if there are several; those that an autoscaler adds later are
    not.
    """
    nodes = at_work()
    if len(nodes) < 2:
        return
    with mark_in(storage) as mark:
        sizes = {str(path): path.stat().st_size for path in _betons(betons)}
        for node, wrong in _asked(nodes, str(mark), sizes):
            if wrong is not None:
                field = "cluster.storage" if wrong == str(mark) else "data.dir"
                path = storage if wrong == str(mark) else Path(wrong)
                raise InputError(
                    f"{field}: expected every node of the cluster to share it, found that {node} "
                    f"does not see {escaped(str(path))} as it is here; put it on storage that all "
                    "nodes mount under the same path"
                )


@contextmanager
def mark_in(folder: Path) -> Iterator[Path]:
    """Within, the folder, created if needed, holds a file whose presence other nodes can check."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f".seen-by-all-{secrets.token_hex(8)}"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def _asked(nodes: list[Node], mark: str, sizes: dict[str, int]) -> list[tuple[str, str | None]]:
    """Each node's address, and the first path that is another there."""

    # Defined here, it travels by value: nodes need not have this project yet.
    def look(mark: str, sizes: dict[str, int]) -> str:
        import os

        try:
            own = f"{mark}-{os.urandom(4).hex()}"
            os.stat(mark)
            os.close(os.open(own, os.O_CREAT | os.O_WRONLY))
            os.unlink(own)
        except OSError:
            return mark
        for path, size in sizes.items():
            try:
                if os.stat(path).st_size != size:
                    return path
            except OSError:
                return path
        return ""

    answers: list[tuple[str, str | None]] = []
    for node, answer in ask(nodes, look, mark, sizes):
        address = node["NodeManagerAddress"]
        if answer is None:
            logger.warning(
                "node %s did not say in %.0f s whether it shares the folders", address, ANSWERS_S
            )
        else:
            answers.append((address, answer or None))
    return answers


def _betons(folder: Path | None) -> list[Path]:
    return [] if folder is None else sorted(folder.glob("*.beton"))
