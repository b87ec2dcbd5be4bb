"""Which process a run is of, and whether it still lives: a killed one leaves runs behind."""

import os
import socket
from functools import cache

import psutil

TAG = "driver"
_SLACK = 2.0  # seconds by which a process's start is told otherwise after the clock was set


@cache
def this_driver() -> str:
    """This process, as a tag: host, process id and when it started."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def is_here(driver: str) -> bool:
    """Whether a driver is, or was, of this machine."""
    return driver.split(" ")[0] == socket.gethostname()


def lives(driver: str) -> bool | None:
    """Whether a driver still runs; None of another machine, or where the tag says nothing."""
    parts = driver.split(" ")
    if len(parts) != 3 or not is_here(driver):
        return None
    try:
        started = psutil.Process(int(parts[1])).create_time()
    except psutil.NoSuchProcess:
        return False
    return bool(abs(started - float(parts[2])) < _SLACK)
