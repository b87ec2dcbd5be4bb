"""A server on the Ray cluster of this process, from its start to its last answer."""

import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.serve.schema import LoggingConfig

from dsnet.errors import InputError
from dsnet.io.description import GATES, MODEL
from dsnet.routing.target import Target, parse_target
from dsnet.runtime.exported import Exported
from dsnet.runtime.session import ONNX
from pipeline.cluster import ray_cluster
from pipeline.predict.model import open_directory
from pipeline.predict.serve.front import About, Front
from pipeline.predict.serve.network import Network, exported
from pipeline.predict.serve.policy import Goal
from pipeline.predict.serve.requests import MOST_WAITING

APPLICATION = "dsnet"
DRAIN_S = 30.0  # for what is in flight when the server ends
# Each is a request until Front refuses it in words of its own.
_ONGOING = 2 * MOST_WAITING


@contextmanager
def serving(
    model: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    budget: Target | str | None = None,
    replicas: int | None = None,
    p99: float | None = None,
    least: Target | str | None = None,
) -> Iterator[str]:
    """While this lasts, the model answers at the URL that it yields; see docs/serving.md.

    model, budget: as `pipeline.predict.model.open_model`. replicas: processes that run the network,
    a core each; None for all of the machine's but one. p99: seconds to hold by a lower budget under
    load; None to leave the budget. least: the lowest that it may fall to; None for the slimmest.
    At the end it answers what has come, for up to DRAIN_S.

    Needs Ray (`ray_cluster.join_or_start`). Raises InputError for a model or budget that cannot be
    served, a port that is taken and replicas that the cluster has no place for.
    """
    replicas = max(1, (os.cpu_count() or 1) - 1) if replicas is None else replicas
    cores = ray_cluster.most_resources().get("CPU", 0.0)
    if replicas > cores:
        raise InputError(
            f"replicas: expected as many as this Ray cluster has CPUs, up to {cores:g}, "
            f"found {replicas}"
        )
    _check_free(host, port)
    with open_directory(model, budget) as (directory, budget):
        files = _files(directory)
    with tempfile.TemporaryDirectory(prefix="dsnet-serve-") as folder:
        about = _about(model, exported(files, folder), budget, replicas, p99, least)
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": port},
        logging_config=quiet,
    )
    try:
        network = _deployment(Network, replicas, 1).bind(ray.put(files))
        front = _deployment(Front, 1, 0).bind(network, about)
        handle = serve.run(front, name=APPLICATION, route_prefix="/", logging_config=quiet)
        try:
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
        finally:
            handle.drain.remote().result(timeout_s=DRAIN_S)
    finally:
        serve.shutdown()


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
            f"({error.strerror or error})"
        ) from None


def _files(directory: Path) -> dict[str, bytes]:
    """What a replica needs of a model directory; the ONNX file is made where there is none."""
    files = {
        name: (directory / name).read_bytes()
        for name in (MODEL, GATES, ONNX)
        if (directory / name).is_file()
    }
    if ONNX not in files:
        from dsnet.inference.export import to_bytes
        from dsnet.io import weights

        files[ONNX] = to_bytes(weights.load(directory))
    return files


def _about(
    model: str,
    runner: Exported,
    budget: Target | str | None,
    replicas: int,
    p99: float | None,
    least: Target | str | None,
) -> About:
    if runner.task != "classification":
        raise InputError(f"{model}: expected a model that classifies, found one for {runner.task}")
    unspendable, side = _unspendable(runner), runner.metadata["resolution"]
    if unspendable and (budget is not None or p99 is not None):
        raise InputError(f"{model}: {unspendable}")
    routes = [runner.madds[route] for route in runner.routes]
    spend = None if budget is None else parse_target(budget).madds(routes)
    average = spend or runner.average or float(max(routes))
    goal = None
    if p99 is not None:
        lowest = float(min(routes)) if least is None else parse_target(least).madds(routes)
        if lowest > average:
            raise InputError(
                f"--budget-min: expected at most the budget, {average:,.0f} multiply-adds, "
                f"found {lowest:,.0f}"
            )
        goal = Goal(p99, average, lowest)
    return About(
        model=model,
        classes=tuple(runner.metadata["classes"]),
        outputs=runner(np.zeros((1, side, side, 3), np.uint8))[0].shape[1],
        madds=tuple(runner.madds),
        routes=tuple(runner.routes),
        resolution=side,
        crop=runner.metadata["crop"],
        budget=spend,
        average=average,
        unspendable=unspendable,
        replicas=replicas,
        goal=goal,
    )


def _unspendable(runner: Exported) -> str | None:
    """Why some budget of the range cannot be met; None where all can."""
    side = runner.metadata["resolution"]
    nothing = np.zeros((0, side, side, 3), np.uint8)
    madds = [runner.madds[route] for route in runner.routes]
    low, high = min(madds), max(madds)
    try:
        for step in range(9):  # budgets lie nearest to one gate or another
            runner(nothing, Target(count=low + (high - low) * step // 8))
    except InputError as error:
        return str(error)
    return None
