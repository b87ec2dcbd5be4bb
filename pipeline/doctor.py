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
from dataclasses import dataclass, replace
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
RUNNING_CLUSTER = Path("/tmp/ray/ray_current_cluster")  # where Ray notes the one on this machine


@dataclass(frozen=True)
class Part:
    """One thing that the pipeline needs."""

    name: str
    state: Literal["ok", "warning", "missing"]
    version: str = ""
    detail: str = ""
    """What was found."""
    advice: str = ""
    """What to do about it, where the state is not ok."""


def examine() -> Iterator[Part]:
    """Every part, in the order in which one depends on another."""
    ffcv = _guarded(check_ffcv)
    for check in (check_compiler, check_pkg_config, check_turbojpeg, check_opencv):
        part = _guarded(check)
        if part.state == "missing" and ffcv.state == "ok":
            advice = f"only needed to build FFCV again; {part.advice}"
            part = replace(part, state="warning", advice=advice)
        yield part
    yield ffcv
    for check in (check_torch, check_ray, check_cluster, check_mlflow, check_store, check_disk):
        yield _guarded(check)


def _guarded(check: Callable[[], Part]) -> Part:
    try:
        return check()
    except Exception as error:  # whatever a broken installation raises is the finding
        name = check.__name__.removeprefix("check_")
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return Part(name, "missing", "", what, "install it: make setup")


# ------------------------------------------------------------------------- building FFCV


def check_compiler() -> Part:
    """A C++ compiler."""
    if shutil.which("g++") is None:
        return Part("compiler", "missing", "", "no g++ on the PATH", f"{APT} g++")
    return Part("compiler", "ok", _output("g++", "-dumpfullversion"), "g++")


def check_pkg_config() -> Part:
    """pkg-config, by which FFCV's build finds its libraries."""
    if shutil.which("pkg-config") is None:
        return Part("pkg-config", "missing", "", "not on the PATH", f"{APT} pkg-config")
    return Part("pkg-config", "ok", _output("pkg-config", "--version"))


def check_turbojpeg() -> Part:
    """libturbojpeg with its headers."""
    return _library("libturbojpeg", ("libturbojpeg",), "libturbojpeg0-dev")


def check_opencv() -> Part:
    """OpenCV with its headers."""
    return _library("opencv", ("opencv4", "opencv"), "libopencv-dev")


def _library(name: str, modules: tuple[str, ...], package: str) -> Part:
    if shutil.which("pkg-config") is None:
        return Part(name, "missing", "", "not known without pkg-config", f"{APT} {package}")
    for module in modules:
        version = _output("pkg-config", "--modversion", module)
        if version:
            return Part(name, "ok", version, "with headers")
    return Part(name, "missing", "", "pkg-config does not know it", f"{APT} {package}")


def _output(*command: str) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, timeout=10)
    return finished.stdout.strip() if finished.returncode == 0 else ""


# ------------------------------------------------------------------------------ packages


def check_ffcv() -> Part:
    """FFCV, its compiled library loaded."""
    import ffcv.libffcv  # noqa: F401  # loads libturbojpeg and OpenCV, or says which is not there

    return Part("ffcv", "ok", metadata.version("ffcv"), "compiled library loads")


def check_torch() -> Part:
    """PyTorch and the devices that it can use."""
    import torch

    version = torch.__version__
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        names = ", ".join(f"{each.name} ({each.total_memory / GIB:.0f} GiB)" for each in devices)
        return Part("torch", "ok", version, names)
    cpus = f"{len(os.sched_getaffinity(0))} CPUs, no GPU"
    if Path("/proc/driver/nvidia/version").exists():
        advice = f"the NVIDIA driver must support CUDA {torch.version.cuda}: update it"
        return Part("torch", "warning", version, f"{cpus} that PyTorch can use", advice)
    return Part("torch", "ok", version, cpus)


def check_ray() -> Part:
    """Ray, with the parts of it that are used here."""
    import ray
    import ray.job_submission
    import ray.train
    import ray.tune

    return Part("ray", "ok", ray.__version__, "with train, tune and jobs")


def check_cluster() -> Part:
    """The Ray cluster that RAY_ADDRESS names, or that runs on this machine."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "auto"):
        running = RUNNING_CLUSTER.read_text().strip() if RUNNING_CLUSTER.is_file() else ""
        if running and _connects(running):
            return Part("ray cluster", "ok", "", f"one runs on this machine at {running}")
        if not address:
            return Part("ray cluster", "ok", "", "none running; one is started when it is needed")
        advice = "start one (ray start --head) or unset RAY_ADDRESS"
        return Part("ray cluster", "missing", "", "RAY_ADDRESS=auto, and none is running", advice)
    if _connects(address):
        return Part("ray cluster", "ok", "", f"{address} answers")
    advice = "start it, or correct or unset RAY_ADDRESS"
    return Part("ray cluster", "missing", "", f"RAY_ADDRESS={address} does not answer", advice)


def _connects(address: str) -> bool:
    url = urlsplit(address if "://" in address else f"//{address}")
    port = url.port or {"ray": 10001, "http": 80, "https": 443}.get(url.scheme, 6379)
    try:
        socket.create_connection((url.hostname or "", port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def check_mlflow() -> Part:
    """MLflow."""
    import mlflow

    return Part("mlflow", "ok", mlflow.__version__)


def check_store() -> Part:
    """The MLflow store: the embedded one or the server in MLFLOW_TRACKING_URI."""
    from pipeline import tracking

    address = tracking.uri()
    if address.startswith("sqlite:///") and not Path(address.removeprefix("sqlite:///")).exists():
        return Part("mlflow store", "ok", "", f"{address} not there yet; made when it is needed")
    answer = tracking.answers(STORE_SECONDS)
    if answer.ok:
        return Part("mlflow store", "ok", "", f"{address} {answer.detail}")
    advice = "start it, or change MLFLOW_TRACKING_URI (unset: a file in DSNET_HOME)"
    return Part("mlflow store", "missing", "", f"{address}: {answer.detail}", advice)


def check_disk() -> Part:
    """Free space where data, checkpoints and the embedded store go."""
    from pipeline.config import home

    folder = home()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{free / GIB:.1f} GiB free in {folder}"
    if free >= DISK_COMFORTABLE:
        return Part("disk", "ok", "", detail)
    advice = "free some space, or set DSNET_HOME to a folder on another disk"
    return Part("disk", "warning" if free >= DISK_NEEDED else "missing", "", detail, advice)
