"""A sweep: what does each budget buy? A gate for every target, and one frontier."""

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from dsnet.routing.target import Target
from pipeline import chain
from pipeline.cluster import events
from pipeline.cluster.interrupts import interruptible
from pipeline.config import Config, import_plugins, storage_dir
from pipeline.data.dataset import ingest
from pipeline.report import STATIC, Results, Row, write_page, write_results
from pipeline.runner.checks import announce, check_classes
from pipeline.runner.job import Job
from pipeline.runner.log_data import log_data
from pipeline.runner.seen import warn_of_seen
from pipeline.runner.starting_point import starting_point
from pipeline.runner.supernet import gateless, given_supernet
from pipeline.runner.train_gate import by_table as is_by_table
from pipeline.store import tracking
from pipeline.store.registry import Version
from pipeline.sweep import by_table, by_training
from pipeline.sweep.request import SweepRequest, with_target
from pipeline.sweep.tuner import check_targets
from pipeline.training.worker_group import WorkerGroup

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has found."""

    results: Results
    parquet: Path
    page: Path
    versions: list[Version]
    """What was registered, each under its targets' aliases: by table, one for all targets."""
    unlearned: str | None = None
    """Why a gate of them did not learn, for which it has no alias; None: all did."""


def sweep(
    config: Config,
    targets: Sequence[Target],
    command: str,
    *,
    workers: WorkerGroup | None = None,
) -> SweepResult:
    """Find a gate for every target, register the best and draw the frontier.

    All on one routing table; straight through the network, one after the other, where the config
    or the number of joint paths will have it so. command: what makes these results again, for the
    report. workers: those of several sweeps and chains; None: of this one alone. Raises InputError,
    before any work, for a target that the routing space cannot meet.
    """
    started = time.monotonic()
    import_plugins(config)
    tracking.configure()
    config = with_target(config, None)
    check_targets(targets, config)
    given = given_supernet(config)
    dataset = ingest(config)
    check_classes(config, dataset, given)
    announce(config, dataset, given)
    start = None if given else starting_point(config, dataset)
    warn_of_seen(given or (start.version if start else None), dataset)
    ours = WorkerGroup() if workers is None else nullcontext(workers)
    with interruptible(), tracking.chain_run(config, targets) as run, ours as at_work:
        log_data(config, dataset, run)
        job = Job(config, dataset, run, at_work, start)
        supernet = given or chain.make_supernet(job)
        logger.info("gates are made for %s", supernet.uri)
        request = SweepRequest(job, supernet, gateless(job, supernet), tuple(targets), command)
        way = by_table if is_by_table(config, request.model) else by_training
        with job.alone(f"{config.name}-sweep", request.key):
            results, versions = way.run(request, started)
        for warning in request.doubts(results):
            logger.warning("%s", warning)
        results = _as_named(results, versions)
        folder = storage_dir(config) / "sweeps" / f"{config.name}-{request.key[:12]}"
        parquet, page = folder / "frontier.parquet", folder / "frontier.html"
        write_results(results, parquet)
        write_page(results, page)
        run.log(_metrics(results))
        for version in versions:
            run.registered(version)
        run.artifact(parquet)
        run.artifact(page)
        events.tell("report", run_id=run.known_id, artifact=page.name, page=str(page))
        reasons = filter(None, request.unlearned(results).values())
        return SweepResult(results, parquet, page, versions, next(reasons, None))


def _metrics(results: Results) -> dict[str, dict[str, float]]:
    """What each target and each static width reaches and costs, by their labels."""
    rows = [*results.of_kind(STATIC), *results.chosen]
    return {
        results.headline.name: {row.label: row.value for row in rows if row.value is not None},
        "average_madds": {row.label: row.madds for row in rows if row.madds is not None},
    }


def _as_named(results: Results, versions: Sequence[Version]) -> Results:
    """With the number of a version in place of a target's alias that it did not get."""
    of_target = {version.tags["target"]: version for version in versions}

    def named(row: Row) -> Row:
        version = of_target.get(row.target or "", versions[0])
        if row.uri is None or row.uri.partition("@")[2] in version.aliases:
            return row
        return replace(row, uri=version.uri)

    return replace(results, rows=tuple(map(named, results.rows)))
