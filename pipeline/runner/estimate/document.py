"""The plan of a chain as one document: what `dsnet plan` prints, as JSON or as tables."""

from dataclasses import asdict
from typing import Any

from dsnet import DSNet, Metadata
from dsnet.routing import MAX_PATHS
from pipeline.cluster.resources import Resources
from pipeline.config import Config, import_plugins
from pipeline.runner.estimate.reuse import dataset_here, given_network, planned
from pipeline.runner.estimate.sizes import sizes_of
from pipeline.runner.estimate.speed import Speed, seconds, spent, stated, total
from pipeline.runner.estimate.storage import storage
from pipeline.runner.estimate.work import of_bootstrap, of_chain, routes
from pipeline.stages.network import new_network


def document(
    config: Config,
    counts: tuple[int | None, int | None, int | None],
    resources: Resources,
    images_per_second: float | None = None,
    measure: bool = False,
) -> dict[str, Any]:
    """Everything that a plan says, by its JSON keys.

    counts: training pictures, test pictures and classes, where they are stated. images_per_second:
    the stated speed of stage I; measure: whether to measure this machine's; without either there
    are no times. Raises InputError where neither counts nor the data say how many pictures there
    are, and for what cannot be made.
    """
    import_plugins(config)
    # Counts that are stated are of data that is not here, or of other data than is.
    dataset, found = (None, None) if all(counts[:2]) else dataset_here(config)
    sizes = sizes_of(config, dataset, *counts, found)
    model = given_network(config) or _made_network(config, sizes.classes)
    by_table = config.gate.method == "table" and len(routes(model)) <= MAX_PATHS
    stages = planned(config, dataset, by_table)
    speed: Speed | None = None
    if images_per_second is not None:
        speed = stated(images_per_second, of_bootstrap(config, model))
    elif measure:
        from pipeline.runner.estimate.calibration import calibrated

        speed = calibrated(config, _made_network(config, sizes.classes))
    work = {each.stage: each for each in of_chain(config, model, sizes, by_table)}
    rows = []
    for stage in stages:
        each = work[stage.stage]
        row = {
            **asdict(stage),
            "steps": each.steps,
            "images": each.images,
            "madds": each.madds,
            "bytes_read": each.bytes_read(sizes),
            "seconds": seconds(each, speed) if speed and stage.runs else None,
        }
        rows.append(row)
    times = None
    if speed is not None:
        pictures = sizes.train + sizes.test if dataset is None else 0
        parts = spent([work[stage.stage] for stage in stages if stage.runs], speed, pictures)
        times = {"total": total(parts), "parts": [asdict(part) for part in parts]}
    cluster, places = config.cluster, resources.places(config.cluster)
    return {
        "name": config.name,
        "data": {**asdict(sizes), "source": config.data.source, "ingested": dataset is not None},
        "stages": rows,
        "resources": {
            "workers": cluster.max_workers,
            "min_workers": cluster.min_workers,
            "cpus_per_worker": cluster.cpus_per_worker,
            "gpus_per_worker": cluster.gpus_per_worker,
            "where": resources.where,
            "cpus": resources.cpus,
            "gpus": resources.gpus,
            "places": places,
            "grows": resources.grows,
            "fits": places >= cluster.min_workers,
            "ever_fits": resources.ever_fits(cluster),
        },
        "storage_bytes": asdict(storage(config, model, sizes, by_table)),
        "madds_per_training_image": of_bootstrap(config, model),
        "speed": None if speed is None else asdict(speed),
        "seconds": times,
    }


def _made_network(config: Config, classes: int) -> DSNet:
    """The configuration's network at its resolution. Raises InputError for what cannot be made."""
    model = new_network(config, classes, Metadata(resolution=config.data.resolution))
    if config.gate.target is not None:
        config.gate.target.madds([model.madds(route) for route in model.space.routes])
    return model
