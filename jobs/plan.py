"""The plan of a chain as one document: what `dsnet plan` prints, as JSON or as tables."""

from dataclasses import asdict, dataclass
from typing import Any

from dsnet import DSNet, Metadata
from dsnet.routing import MAX_PATHS
from pipeline.cluster.resources import Resources
from pipeline.config import Config, import_plugins
from pipeline.data.dataset import Dataset
from pipeline.runner.estimate import speed as speeds
from pipeline.runner.estimate.reuse import Planned, dataset_here, given_network
from pipeline.runner.estimate.sizes import Sizes, sizes_of
from pipeline.runner.estimate.speed import Speed
from pipeline.runner.estimate.storage import storage
from pipeline.runner.estimate.work import of_bootstrap, of_chain, routes
from pipeline.stages.network import new_network

MAKES_A_VERSION = ("supernet", "calibrate", "gate")


@dataclass(frozen=True)
class Subject:
    """What a plan is of."""

    dataset: Dataset | None
    """The betons, where they are here."""
    sizes: Sizes
    model: DSNet
    by_table: bool
    """Whether gates are trained on a table."""


def subject(config: Config, counts: tuple[int | None, int | None, int | None]) -> Subject:
    """What is known of a configuration's data and network.

    counts: training pictures, test pictures and classes, where they are stated. Raises InputError
    where neither they nor the data say how many there are, and for what cannot be made.
    """
    import_plugins(config)
    # Counts that are stated are of data that is not here, or of other data than is.
    dataset, found = (None, None) if all(counts[:2]) else dataset_here(config)
    sizes = sizes_of(config, dataset, *counts, found)
    model = given_network(config) or made_network(config, sizes.classes)
    by_table = config.gate.method == "table" and len(routes(model)) <= MAX_PATHS
    return Subject(dataset, sizes, model, by_table)


def made_network(config: Config, classes: int) -> DSNet:
    """The configuration's network at its resolution. Raises InputError for what cannot be made."""
    model = new_network(config, classes, Metadata(resolution=config.data.resolution))
    if config.gate.target is not None:
        config.gate.target.madds([model.madds(route) for route in model.space.routes])
    return model


def document(
    config: Config,
    model: DSNet,
    sizes: Sizes,
    dataset: Dataset | None,
    stages: list[Planned],
    resources: Resources,
    speed: Speed | None,
) -> dict[str, Any]:
    """Everything that a plan says. speed: None where none was stated or measured: no times then."""
    by_table = any(stage.stage == "table" for stage in stages) or config.gate.method == "table"
    work = {each.stage: each for each in of_chain(config, model, sizes, by_table)}
    rows = [_stage(stage, work.get(stage.stage), sizes, speed) for stage in stages]
    run = [row for row in rows if row["runs"]]
    places = resources.places(config.cluster)
    return {
        "name": config.name,
        "data": {**asdict(sizes), "source": config.data.source, "ingested": dataset is not None},
        "stages": rows,
        "resources": {
            "workers": config.cluster.max_workers,
            "min_workers": config.cluster.min_workers,
            "cpus_per_worker": config.cluster.cpus_per_worker,
            "gpus_per_worker": config.cluster.gpus_per_worker,
            "where": resources.where,
            "cpus": resources.cpus,
            "gpus": resources.gpus,
            "places": places,
            "grows": resources.grows,
            "fits": places >= config.cluster.min_workers,
            "ever_fits": resources.ever_fits(config.cluster),
        },
        "storage_bytes": asdict(storage(config, model, sizes, by_table)),
        "madds_per_training_image": of_bootstrap(config, model),
        "speed": None if speed is None else asdict(speed),
        "seconds": None if speed is None else _seconds(run, sizes, dataset, speed.slowness),
    }


def _stage(stage: Planned, work: Any, sizes: Sizes, speed: Speed | None) -> dict[str, Any]:
    row: dict[str, Any] = asdict(stage)
    if work is None:
        return row
    row |= {"steps": work.steps, "images": work.images, "madds": work.madds}
    row["bytes_read"] = work.bytes_read(sizes)
    row["seconds"] = speeds.seconds(work, speed) if speed and stage.runs else None
    return row


def _seconds(
    run: list[dict[str, Any]], sizes: Sizes, dataset: Dataset | None, slowness: float
) -> dict[str, Any]:
    versions = sum(row["stage"] in MAKES_A_VERSION for row in run)
    pictures = sizes.train + sizes.test if dataset is None else 0
    rest = speeds.always(versions, pictures, slowness)
    rest = rest if run else rest[:1]  # the driver alone
    parts = [
        {"what": f"stage {row['stage']}", "seconds": row["seconds"], "how": "computed"}
        for row in run
    ]
    parts += [asdict(each) for each in rest]
    return {"total": sum(part["seconds"] for part in parts), "parts": parts}
