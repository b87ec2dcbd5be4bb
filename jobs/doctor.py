"""What this machine has of what the pipeline needs: each part, its version, its state and, where
something is wrong, what to do about it.

A part that is missing must not keep the others from being examined, so nothing but the standard
library is imported at the top.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

APT = "apt-get install"
STORE_SECONDS = 10.0
CONNECT_SECONDS = 3.0
GIB = 2**30
# A chain on ImageNet's betons wants tens of GiB; the digits need less than one.
DISK_NEEDED, DISK_COMFORTABLE = GIB, 10 * GIB
# Writing a beton takes a few pages of 8 MiB; Ray's object store wants more than Docker's 64 MB.
MEMORY_NEEDED, MEMORY_COMFORTABLE = GIB // 16, GIB // 2

State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """What was found of one part."""

    state: State
    version: str = ""
    detail: str = ""
    advice: str = ""
    """What to do about it, where the state is not ok."""


@dataclass(frozen=True)
class Part(Finding):
    """One thing that the pipeline needs, as it was found."""

    name: str = ""


def examine() -> Iterator[Part]:
    """Every part, in the order in which one depends on another."""
    ffcv = _guarded("ffcv", check_ffcv)
    for name, check in TO_BUILD_FFCV.items():
        part = _guarded(name, check)
        if part.state == "missing" and ffcv.state == "ok":
            advice = f"only needed to build FFCV again; {part.advice}"
            part = replace(part, state="warning", advice=advice)
        yield part
    yield ffcv
    for name, check in TO_RUN.items():
        yield _guarded(name, check)


def _guarded(name: str, check: Callable[[], Finding]) -> Part:
    try:
        finding = check()
    except Exception as error:  # whatever a broken installation raises is the finding
        what = " ".join(f"{type(error).__name__}: {error}".split())
        finding = Finding("missing", "", what, "install it: make setup")
    return Part(**asdict(finding), name=name)


# ------------------------------------------------------------------------- building FFCV


def check_compiler() -> Finding:
    """A C++ compiler."""
    if shutil.which("g++") is None:
        return Finding("missing", "", "no g++ on the PATH", f"{APT} g++")
    return Finding("ok", _output("g++", "-dumpfullversion"), "g++")


def check_pkg_config() -> Finding:
    """pkg-config, by which FFCV's build finds its libraries."""
    if shutil.which("pkg-config") is None:
        return Finding("missing", "", "not on the PATH", f"{APT} pkg-config")
    return Finding("ok", _output("pkg-config", "--version"))


def check_library(modules: tuple[str, ...], package: str) -> Finding:
    """A library with its headers: by one of its names for pkg-config, and Debian's package."""
    if shutil.which("pkg-config") is None:
        return Finding("missing", "", "not known without pkg-config", f"{APT} {package}")
    for module in modules:
        version = _output("pkg-config", "--modversion", module)
        if version:
            return Finding("ok", version, "with headers")
    return Finding("missing", "", "pkg-config does not know it", f"{APT} {package}")


def _output(*command: str) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, timeout=10)
    return finished.stdout.strip() if finished.returncode == 0 else ""


# ------------------------------------------------------------------------------ packages


def check_ffcv() -> Finding:
    """FFCV, its compiled library loaded."""
    import ffcv.libffcv  # noqa: F401  # loads libturbojpeg and OpenCV, or says which is not there

    return Finding("ok", metadata.version("ffcv"), "compiled library loads")


def check_torch() -> Finding:
    """PyTorch and the devices that it can use."""
    import torch

    version = torch.__version__
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        names = ", ".join(f"{each.name} ({each.total_memory / GIB:.0f} GiB)" for each in devices)
        return Finding("ok", version, names)
    cpus = f"{len(os.sched_getaffinity(0))} CPUs, no GPU"
    if Path("/proc/driver/nvidia/version").exists():
        advice = f"the NVIDIA driver must support CUDA {torch.version.cuda}: update it"
        return Finding("warning", version, f"{cpus} that PyTorch can use", advice)
    return Finding("ok", version, cpus)


def check_ray() -> Finding:
    """Ray, with the parts of it that are used here."""
    import ray
    import ray.job_submission
    import ray.train
    import ray.tune

    return Finding("ok", ray.__version__, "with train, tune and jobs")


def check_cluster() -> Finding:
    """The Ray cluster that RAY_ADDRESS names."""
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        return Finding("ok", "", "RAY_ADDRESS is not set: a chain starts its own cluster")
    if address == "auto":
        # Where Ray notes the cluster that it last started on this machine.
        note = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
        running = note.read_text().strip() if note.is_file() else ""
    else:
        running = address
    if running and _connects(running):
        return Finding("ok", "", f"RAY_ADDRESS={address}: {running} answers")
    advice = "start it (ray start --head), or correct or unset RAY_ADDRESS"
    return Finding("missing", "", f"RAY_ADDRESS={address} does not answer", advice)


def _connects(address: str) -> bool:
    url = urlsplit(address if "://" in address else f"//{address}")
    port = url.port or {"ray": 10001, "http": 80, "https": 443}.get(url.scheme, 6379)
    try:
        socket.create_connection((url.hostname or "", port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def check_mlflow() -> Finding:
    """MLflow."""
    import mlflow

    return Finding("ok", mlflow.__version__)


def check_store() -> Finding:
    """The MLflow store: the embedded one or the server in MLFLOW_TRACKING_URI."""
    from pipeline.config import home
    from pipeline.store import tracking

    if not os.environ.get("MLFLOW_TRACKING_URI") and not (home() / "mlflow.db").exists():
        return Finding("ok", "", f"none in {home()} yet; it is made when it is needed")
    answer = tracking.answers(STORE_SECONDS)
    if answer.ok:
        return Finding("ok", "", f"{answer.uri} {answer.detail}")
    advice = "start it, or change MLFLOW_TRACKING_URI (unset: a file in DSNET_HOME)"
    return Finding("missing", "", f"{answer.uri}: {answer.detail}", advice)


def check_disk() -> Finding:
    """Free space where data, checkpoints and the embedded store go."""
    from pipeline.config import home

    folder = home()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{free / GIB:.1f} GiB free in {folder}"
    if free >= DISK_COMFORTABLE:
        return Finding("ok", "", detail)
    advice = "free some space, or set DSNET_HOME to a folder on another disk"
    return Finding("warning" if free >= DISK_NEEDED else "missing", "", detail, advice)


def check_shared_memory() -> Finding:
    """Free space in /dev/shm, where Ray's object store and PyTorch's processes share memory."""
    from dsnet.io.files import SHARED_MEMORY

    if not SHARED_MEMORY.is_dir():
        return Finding("ok", "", f"no {SHARED_MEMORY}: Ray shares memory by files in its /tmp")
    memory = shutil.disk_usage(SHARED_MEMORY)
    detail = f"{memory.free / GIB:.1f} of {memory.total / GIB:.1f} GiB free in {SHARED_MEMORY}"
    if memory.free >= MEMORY_COMFORTABLE:
        return Finding("ok", "", detail)
    advice = f"remove what fills {SHARED_MEMORY}, or make it larger (docker run --shm-size 8g)"
    return Finding("warning" if memory.free >= MEMORY_NEEDED else "missing", "", detail, advice)


TO_BUILD_FFCV: dict[str, Callable[[], Finding]] = {
    "compiler": check_compiler,
    "pkg-config": check_pkg_config,
    "libturbojpeg": partial(check_library, ("libturbojpeg",), "libturbojpeg0-dev"),
    "opencv": partial(check_library, ("opencv4", "opencv"), "libopencv-dev"),
}
TO_RUN = {
    "torch": check_torch,
    "ray": check_ray,
    "ray cluster": check_cluster,
    "mlflow": check_mlflow,
    "mlflow store": check_store,
    "disk": check_disk,
    "shared memory": check_shared_memory,
}
