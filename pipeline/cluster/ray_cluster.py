"""The Ray cluster: joined or started, and asked whether it can ever hold what a config wants."""

import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable

import ray

from dsnet.errors import InputError, OutageError
from dsnet.errors.text import line
from pipeline.cluster import token
from pipeline.cluster.agents import end_agents_with_this_process, ended_if_it_fails
from pipeline.cluster.interrupts import handlers_kept
from pipeline.cluster.ray_private import authentication_logger, autoscaling_limits
from pipeline.cluster.resources import Resources, of_rows
from pipeline.cluster.watch import JOINED_S, OWN_S, watch
from pipeline.config import Cluster

logger = logging.getLogger(__name__)

_ANSWERS_S = 10.0
STARTS = 2

LONGEST_SOCKET = 107  # bytes, of the path of a Unix socket
# What Ray puts behind the folder for temporary files; the last number is a process's.
SOCKET = "/ray/session_2026-01-31_23-59-59_123456_4194304/sockets/plasma_store"
LONGEST_TMPDIR = LONGEST_SOCKET - len(SOCKET)
_SHORT = "/tmp"


def connect(cluster: Cluster) -> None:
    """Join the cluster in RAY_ADDRESS, or start one on this machine; check that `cluster` fits.

    Raises InputError, before any work is done, if the nodes that there are have no room for the
    workers, and the cluster may not grow, where it does by itself, to what they need.
    """
    join_or_start()
    check_capacity(cluster, running_resources("this Ray cluster"))


def join_or_start() -> None:
    """Be part of the cluster in RAY_ADDRESS, or start one on this machine, if this is of none."""
    if not ray.is_initialized():
        if not sys.stderr.isatty():  # a log: what workers print comes without colour codes
            os.environ.setdefault("RAY_COLOR_PREFIX", "0")
        with handlers_kept():  # ray.init installs its own handler of SIGTERM
            if address := os.environ.get("RAY_ADDRESS"):
                join(address)
                if "://" not in address:  # a Ray client, which is not part of the cluster
                    watch(JOINED_S)
            else:
                start()
                watch(OWN_S)


def join(address: str) -> None:
    """Connect to a running cluster.

    Raises InputError where nothing answers at a head's address, HOST:PORT, or its token is wanted.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_S).close()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise InputError(
                f"RAY_ADDRESS: expected the address of a running Ray cluster's head, found nothing "
                f"that answers at {address} ({reason}); start it, or unset RAY_ADDRESS for a "
                "cluster on this machine"
            ) from None
        token.offer(address)
    ray.init(address, logging_level=logging.WARNING)


def start(cpus: int | None = None) -> str:
    """Start a cluster on this machine, without a dashboard; return its address.

    cpus: by default as many as the machine has.

    Nobody is told the address of a dashboard that ends with its command; its processes take two
    seconds to start, and then of the cores that the workers are on. Whoever wants one starts a
    cluster with it (`ray start --head`) and names that in RAY_ADDRESS.
    """
    # Nobody preempts this machine, and the watcher's start is logged as an error.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    # Ray Train looks this often whether the workers have ended: every 2 s by itself.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "1")
    # At every start, that it will ask for a token: how it should be, and read as a failure.
    logging.getLogger(authentication_logger()).setLevel(logging.ERROR)

    folder = session_folder()

    def init() -> None:
        try:
            ray.init(
                "local",
                num_cpus=cpus,
                include_dashboard=False,
                logging_level=logging.WARNING,
                _temp_dir=folder,
            )
        except BaseException:
            ray.shutdown()
            raise

    started(init)
    end_agents_with_this_process()
    return ray.get_runtime_context().gcs_address


def session_folder() -> str | None:
    """Where a cluster of this machine's own keeps its sockets and logs; None: where Ray does.

    Ray takes RAY_TMPDIR or TMPDIR, and ends in a traceback, after half a minute, where that is too
    long for a socket's path: schedulers such as Slurm set such ones. Raises InputError where there
    is no other.
    """
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    length = 0 if variable is None else len(os.fsencode(os.environ[variable]))
    if length <= LONGEST_TMPDIR:
        return None
    if variable == "RAY_TMPDIR" or not os.access(_SHORT, os.W_OK):
        raise InputError(
            f"{variable}: expected a path of up to {LONGEST_TMPDIR} bytes, as Ray's sockets below "
            f"it may have {LONGEST_SOCKET}, found {length}; set RAY_TMPDIR to a shorter one"
        )
    logger.info("TMPDIR is too long for Ray's sockets: it uses %s/ray, or RAY_TMPDIR", _SHORT)
    return f"{_SHORT}/ray"


def started(init: Callable[[], object]) -> None:
    """Start Ray, and once more where that fails: its processes have 30 s each to answer.

    Raises OutageError where the second start fails too.
    """
    for attempt in range(STARTS):
        try:
            with ended_if_it_fails():
                init()
            return
        except Exception as error:  # Ray's own is of no other kind
            if attempt == STARTS - 1:
                raise OutageError(
                    f"Ray did not start on this machine, {STARTS} times in a row: {line(error)}; "
                    "where the machine is busy, run the same command again later; Ray's logs are "
                    "in /tmp/ray/session_latest/logs"
                ) from error
            logger.warning("Ray did not start (%s); starting it again", line(error))


def most_resources() -> dict[str, float]:
    """The resources that the cluster has, or may grow to where an autoscaler says so."""
    resources = ray.cluster_resources()
    limits = autoscaling_limits()
    return {key: max(resources.get(key, 0), limits.get(key, 0)) for key in {*resources, *limits}}


def running_resources(where: str) -> Resources:
    """What the nodes of the cluster that this process is part of have, and what it may grow to."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    limits = autoscaling_limits()
    most = limits.get("CPU", 0.0), limits.get("GPU", 0.0)
    return Resources(where, of_rows(nodes), most)


def check_capacity(cluster: Cluster, resources: Resources) -> None:
    """Raise InputError if the fewest workers can never be placed on the nodes of `resources`."""
    if resources.ever_fits(cluster):
        return
    kinds = Counter(resources.nodes)  # a large cluster has few kinds of nodes
    nodes = ", ".join(
        f"{n} of {cpus:g} CPUs and {gpus:g} GPUs" for (cpus, gpus), n in kinds.items()
    )
    grown = (
        f", and may grow to {resources.most[0]:g} CPUs and {resources.most[1]:g} GPUs in all"
        if resources.grows
        else ""
    )
    raise InputError(
        f"cluster.workers: expected what this Ray cluster can ever have, room for "
        f"{resources.places(cluster)} workers with cluster.cpus_per_worker "
        f"{cluster.cpus_per_worker:g} and cluster.gpus_per_worker {cluster.gpus_per_worker:g} "
        f"each (nodes: {nodes}{grown}), found {cluster.min_workers} workers; ask for fewer "
        "workers or a larger cluster"
    )
