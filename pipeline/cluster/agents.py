"""What Ray starts on this machine for a driver, ended with it, and with a start that fails.

All else that Ray starts for a driver notices within seconds that it was killed, and ends. The two
agents of a raylet notice too, but then try for a minute to tell the driver.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import ray

_RAY = os.path.dirname(ray.__file__)
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")

# The end of the pipe means that the driver has ended, however it did. A number that by then is
# another process's is left alone.
_WAIT_AND_KILL = """
read -r _
for pid in "$@"; do
    grep -q '^ray::' "/proc/$pid/cmdline" 2>/dev/null && kill -KILL "$pid"
done
"""


def end_agents_with_this_process() -> None:
    """To be called when a cluster was started: a shell waits for this process's end."""
    raylets = [each for each in psutil.Process().children() if each.name() == "raylet"]
    agents = [each.pid for raylet in raylets for each in raylet.children() if _is_agent(each)]
    # Nobody else holds the writing end: Python hands no descriptor on that it is not asked to.
    reading, _ = os.pipe()
    subprocess.Popen(
        ["sh", "-c", _WAIT_AND_KILL, "sh", *map(str, agents)],
        stdin=reading,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the driver alone
    )
    os.close(reading)


@contextmanager
def ended_if_it_fails() -> Iterator[None]:
    """Within, a cluster is started; if that raises, its processes so far are killed.

    Ray would leave it until this process ends.
    """
    before = set(psutil.Process().children())
    try:
        yield
    except BaseException:
        for child in set(psutil.Process().children()) - before:
            for process in _of_ray(child):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        raise


def _of_ray(child: psutil.Process) -> list[psutil.Process]:
    """It and all below it, if it is Ray's."""
    with suppress(psutil.NoSuchProcess):
        if any(_RAY in word for word in child.cmdline()):
            return [child, *child.children(recursive=True)]
    return []


def _is_agent(process: psutil.Process) -> bool:
    try:
        return process.name() in _AGENTS
    except psutil.NoSuchProcess:
        return False
