"""A sweep: what does each budget buy? A gate for every target, and one frontier."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsnet.routing.target import Target
from pipeline import chain
from pipeline.cluster import ray_cluster
from pipeline.config import Config, storage_dir
from pipeline.data.dataset import ingest
from pipeline.report import STATIC, Results, Row, write_page, write_results
from pipeline.runner.job import Job
from pipeline.store import tracking
from pipeline.store.registry import Version
from pipeline.sweep import by_table, by_training
from pipeline.sweep.request import SweepRequest, with_target
from pipeline.sweep.tuner import check_targets
from pipeline.training.sanity import Point, doubts


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has found."""

    results: Results
    parquet: Path
    page: Path
    versions: list[Version]
    """What was registered, each under its targets' aliases: by table, one for all targets."""


def sweep(config: Config, targets: Sequence[Target], command: str) -> SweepResult:
    """Find a gate for every target, register the best and draw the frontier.

    All on one routing table; straight through the network, one after the other, where the config
    or the number of joint paths will have it so. command: what makes these results again, for the
    report. Raises InputError, before any work, for a target that the routing space cannot meet.
    """
    started = time.monotonic()
    tracking.configure()
    config = with_target(config, None)
    check_targets(targets, config)
    given = chain.given_supernet(config)
    dataset = ingest(config)
    chain.check_classes(config, dataset, given)
    chain.announce(config, dataset, given)
    ray_cluster.connect(config.cluster)
    with tracking.chain_run(config, {"targets": ",".join(map(str, targets))}) as run:
        job = Job(config, dataset, run)
        supernet = given or chain.calibrate(job, chain.supernet(job))
        request = SweepRequest(
            job, supernet, chain.gateless(job, supernet), tuple(targets), command
        )
        way = by_table if chain.by_table(config, request.model) else by_training
        results, versions = way.run(request, started)
        static, chosen = (
            [_point(row) for row in rows] for rows in (results.of_kind(STATIC), results.chosen)
        )
        images = dataset.test.samples
        chain.warn(doubts(static, chosen, results.headline, images, request.labels))
        folder = storage_dir(config) / "sweeps" / f"{config.name}-{request.key[:12]}"
        parquet, page = folder / "frontier.parquet", folder / "frontier.html"
        write_results(results, parquet)
        write_page(results, page)
        run.artifact(parquet)
        run.artifact(page)
        return SweepResult(results, parquet, page, versions)


def _point(row: Row) -> Point:
    return Point(
        row.label, row.value or 0.0, row.value_stderr or 0.0, row.madds or 0.0, row.target_madds
    )
