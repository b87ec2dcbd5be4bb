"""What each node of a Ray cluster has of what a training on several nodes needs."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.doctor import DISK_COMFORTABLE, DISK_NEEDED, GIB, Part, State
from pipeline.cluster.nodes import ANSWERS_S, Node, ask, at_work
from pipeline.cluster.shared_folders import mark_in

PACKAGES = ("torch", "torchvision", "ray", "ffcv", "mlflow", "numpy", "pyarrow", "safetensors")
"""What a node's part of a training is written for one version of."""
CLOCKS_S = 5.0
"""By which clocks may differ: tokens and the order of events go by them."""
_NO_NETWORK = ("lo", "docker", "veth", "br-", "virbr")


@dataclass(frozen=True)
class Seen:
    """What a node says of itself."""

    python: str
    versions: dict[str, str]
    sees: bool
    """Whether the file that was written into DSNET_HOME is there."""
    free: int
    """Bytes left where it is."""
    clock: float
    """Seconds since 1970."""
    gpus: int
    """That NVIDIA's driver lists."""
    driver: bool
    """Whether NVIDIA's is loaded."""
    interfaces: tuple[str, ...]
    nccl: dict[str, str]
    """Environment variables of NCCL's."""


@dataclass(frozen=True)
class Here:
    """Where this runs, for nodes to be compared with."""

    seen: Seen
    took: float
    """Seconds from then to the last answer."""
    several: bool
    """Whether GPUs of more than one node will talk to each other."""


def examine_nodes() -> Iterator[Part]:
    """Every node that takes work, as this process finds it; the cluster must have been joined."""
    from pipeline.config import home

    nodes = at_work()
    with mark_in(home()) as mark:
        here = Seen(**question()(str(mark), PACKAGES))
        answers = ask(nodes, question(), str(mark), PACKAGES)
        took = time.time() - here.clock
    several = sum(bool(node["Resources"].get("GPU")) for node in nodes) > 1
    for node, answer in answers:
        yield judged(node, Seen(**answer) if answer else None, Here(here, took, several))


def question() -> Any:
    """What every node is asked, to travel by value: a marked file and packages, to a `Seen`."""

    def look(mark: str, packages: Sequence[str]) -> dict[str, Any]:
        import glob
        import os
        import platform
        import shutil
        import socket
        import time
        from importlib import metadata

        def version(package: str) -> str:
            try:
                return metadata.version(package)
            except metadata.PackageNotFoundError:
                return ""

        folder = os.path.dirname(mark)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        return {
            "python": ".".join(platform.python_version_tuple()[:2]),
            "versions": {package: version(package) for package in packages},
            "sees": os.path.exists(mark),
            "free": shutil.disk_usage(folder).free,
            "clock": time.time(),
            "gpus": len(glob.glob("/proc/driver/nvidia/gpus/*")),
            "driver": os.path.exists("/proc/driver/nvidia/version"),
            "interfaces": tuple(name for _, name in socket.if_nameindex()),
            "nccl": {key: text for key, text in os.environ.items() if key.startswith("NCCL_")},
        }

    return look


def judged(node: Node, seen: Seen | None, here: Here) -> Part:
    """What a node lacks of what a training needs. seen: None where it did not answer."""
    name = f"node {node['NodeManagerAddress']}"
    has = node["Resources"]
    cpus, gpus = has.get("CPU", 0.0), has.get("GPU", 0.0)
    if seen is None:
        detail = f"{cpus:g} CPUs, {gpus:g} GPUs, and no answer in {ANSWERS_S:.0f} s"
        return Part("missing", "", detail, "look at its raylet.log, or drain the node", name)
    detail = f"{cpus:g} CPUs, {gpus:g} GPUs, {seen.free / GIB:.1f} GiB free"
    missing = list(_missing(seen, here.seen, gpus))
    warnings = [*_of_one(seen, here, gpus), *_of_several(seen, here, gpus)]
    state: State = "missing" if missing else "warning" if warnings else "ok"
    return Part(state, seen.versions["torch"], detail, "; ".join([*missing, *warnings]), name)


def _missing(seen: Seen, here: Seen, gpus: float) -> Iterator[str]:
    """What a training would fail for, or do wrong."""
    if seen.python != here.python:
        yield f"Python {seen.python} here and {here.python} where this runs: install the same"
    other = [
        f"{package} {seen.versions[package] or 'missing'} (not {version})"
        for package, version in here.versions.items()
        if version and seen.versions[package] != version
    ]
    if other:
        yield f"install requirements.lock: {', '.join(other)}"
    if not seen.sees:
        yield "it does not see DSNET_HOME as it is where this runs: mount it there too"
    if seen.free < DISK_NEEDED:
        yield "free some space in DSNET_HOME"
    if gpus and not seen.driver:
        yield "Ray counts GPUs but there is no NVIDIA driver: correct its --num-gpus"


def _of_one(seen: Seen, here: Here, gpus: float) -> Iterator[str]:
    """What may be meant so, of a node by itself."""
    if DISK_NEEDED <= seen.free < DISK_COMFORTABLE:
        yield "little space is left in DSNET_HOME"
    if seen.gpus > gpus:
        yield f"{seen.gpus} GPUs are there, of which Ray was given {gpus:g}"
    ahead = seen.clock - here.seen.clock
    if not -CLOCKS_S < ahead < here.took + CLOCKS_S:
        yield f"its clock is about {abs(ahead):.0f} s off: set it by NTP"


def _of_several(seen: Seen, here: Here, gpus: float) -> Iterator[str]:
    """What may be meant so, where GPUs talk to those of other nodes."""
    if not here.several or not gpus:
        return
    networks = [name for name in seen.interfaces if not name.startswith(_NO_NETWORK)]
    if len(networks) > 1 and "NCCL_SOCKET_IFNAME" not in seen.nccl:
        yield f"say by NCCL_SOCKET_IFNAME which network NCCL is to take: {', '.join(networks)}"
    if differing := sorted({key for key, _ in seen.nccl.items() ^ here.seen.nccl.items()}):
        yield f"{', '.join(differing)} differ from where this runs"
