"""Stage II on its driver: by a routing table, or straight through the network."""

import logging
import time

from dsnet import DSNet
from dsnet.routing import MAX_PATHS, RoutingTable
from dsnet.routing.tuned import fitted
from pipeline.config import Config
from pipeline.report.frontier import static_rows
from pipeline.runner.find_or_train import find_or_train
from pipeline.runner.job import GATE, Job
from pipeline.runner.register import register_model
from pipeline.runner.summary import log_summary
from pipeline.runner.supernet import gateless
from pipeline.runner.tables import make_tables
from pipeline.stages import gate as gate_stage
from pipeline.stages import table, table_gate
from pipeline.store import tracking
from pipeline.store.card import Reached
from pipeline.store.registry import Version

logger = logging.getLogger(__name__)


def gate(job: Job, supernet: Version) -> Version:
    """The gated network. Raises InputError for a supernet of another number of classes."""
    model = gateless(job, supernet)
    if by_table(job.config, model):
        return gate_by_table(job, supernet, model)
    return find_or_train(job, gate_stage.STAGE, supernet)


def every_width(model: DSNet, table: RoutingTable) -> dict[int, float]:
    """By index of a sub-network, the mean of the headline with every image of a table at it."""
    names = [f"width {route}" for route in model.space.routes]
    rows = zip(model.space.routes, static_rows(table, names), strict=True)
    return {route: row.value for route, row in rows if row.value is not None}


def by_table(config: Config, model: DSNet) -> bool:
    """Whether gates are trained on a table, as `gate.method` says; a warning, where they cannot."""
    if config.gate.method == "table" and not fits_table(model):
        logger.warning(
            "gate.method table is for up to %d joint paths and %s has %d: straight_through is used",
            MAX_PATHS,
            model.architecture.name,
            len(model.space.routes),
        )
    return config.gate.method == "table" and fits_table(model)


def fits_table(model: DSNet) -> bool:
    """Whether a table has room for every joint path of the gates."""
    return len(model.space.routes) <= MAX_PATHS


def gate_by_table(job: Job, supernet: Version, model: DSNet) -> Version:
    """The gated network, its gates trained on the supernet's routing table."""
    key = job.fingerprint(table_gate.SPEC, [supernet], job.fingerprint(table.SPEC, [supernet]))
    with job.found_or_locked(GATE, job.config.name, key) as found:
        if found is not None:
            return found
        tables = make_tables(job, supernet, model)
        with tracking.stage_run(job.run, GATE, {"fingerprint": key}) as run:
            began = time.monotonic()
            train, holdout = tables.read("train"), tables.read("holdout")
            trained = table_gate.train_on(job.config, train, holdout)
            (outcome,) = trained.outcomes
            tuned = table_gate.tuned(trained, holdout)
            metrics = {**outcome.measures, "average_madds": outcome.madds}
            log_summary(GATE, metrics, time.monotonic() - began, model)
            return register_model(
                job,
                GATE,
                job.config.name,
                fitted(model, tuned),
                metrics,
                key,
                run,
                supernet,
                gates=[tuned],
                reached=Reached(len(holdout), every_width(model, holdout)),
            )
