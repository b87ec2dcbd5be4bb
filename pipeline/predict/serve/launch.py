"""A server on the Ray cluster of this process, from its start to its last answer."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.schema import LoggingConfig

from dsnet.errors import InputError
from dsnet.errors.text import line
from pipeline.cluster import ray_cluster, watch
from pipeline.cluster.interrupts import interruptible
from pipeline.predict.serve.front import Front
from pipeline.predict.serve.network import Network
from pipeline.predict.serve.prepare import Prepared
from pipeline.predict.serve.requests import MOST_REQUESTS

logger = logging.getLogger(__name__)

DRAIN_S = 30.0  # for what is in flight when a server ends
# Of one deployment: more than Front lets wait, which refuses in words of its own.
_ONGOING = 2 * MOST_REQUESTS
_QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


@contextmanager
def http(host: str, port: int) -> Iterator[str]:
    """Ray Serve listening, on the cluster in RAY_ADDRESS or one of its own; the URL.

    Within, Ctrl-C and SIGTERM are exceptions (`interruptible`). At the end this process leaves the
    cluster. Raises InputError where it cannot listen.
    """
    _check_free(host, port)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray_cluster.join_or_start()
    with interruptible():
        try:
            serve.start(
                proxy_location="HeadOnly",
                http_options={"host": host, "port": port},
                logging_config=_QUIET,
            )
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
        finally:
            # That calls to what it ends are lost, Ray prints as if it were an error.
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                if not watch.gone():  # it was stopped together with its cluster
                    serve.shutdown()
                    ray.shutdown()


@contextmanager
def deployed(prepared: Prepared, name: str = "dsnet", prefix: str = "/") -> Iterator[None]:
    """While this lasts, within `http`, the model answers below `prefix`.

    At the end it refuses what comes and answers what has come, for up to DRAIN_S. Raises InputError
    for replicas that the cluster has no place for.
    """
    replicas = prepared.about.replicas
    cores = ray_cluster.most_resources().get("CPU", 0.0)
    if replicas > cores:
        raise InputError(
            f"replicas: expected as many as this Ray cluster has CPUs, up to {cores:g}, "
            f"found {replicas}"
        )
    network = _deployment(Network, replicas, 1).bind(ray.put(prepared.files))
    front = _deployment(Front, 1, 0).bind(network, prepared.about)
    handle = serve.run(front, name=name, route_prefix=prefix, logging_config=_QUIET)
    handle.warm.remote().result()
    try:
        yield
    finally:
        if not watch.gone():
            try:
                handle.drain.remote().result(timeout_s=DRAIN_S)
            except (RayError, TimeoutError) as error:
                logger.warning("the server ends before all are answered: %s", line(error))


def _deployment(what: type, replicas: int, cores: int) -> Any:
    decorate = serve.deployment(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cores},
        max_ongoing_requests=_ONGOING,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=5,
    )
    return decorate(what)


def _check_free(host: str, port: int) -> None:
    """Raise InputError unless this machine can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise InputError(
            f"--host, --port: expected an address to listen at, found {host}:{port} "
            f"({os.strerror(error.errno) if error.errno else error})"
        ) from None
