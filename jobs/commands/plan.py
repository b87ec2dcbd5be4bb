"""dsnet plan: what a run would do, reuse, need and take, before it."""

import os
from typing import TYPE_CHECKING, Any

import click

from jobs.config_flags import ConfigCommand, config_flags, configuration
from jobs.output import print_json, print_table, working
from pipeline.cluster.progress import clock

if TYPE_CHECKING:  # a wrong flag need not wait for it
    from pipeline.cluster.resources import Resources


@click.command("plan", cls=ConfigCommand)
@config_flags
@click.option(
    "--images",
    type=click.IntRange(2),
    metavar="N",
    help="Training pictures, held-out ones among them, where the data is not here.",
)
@click.option("--test-images", type=click.IntRange(1), metavar="N", help="Test pictures.")
@click.option("--classes", type=click.IntRange(2), metavar="N", help="Classes.")
@click.option(
    "--images-per-second",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="Speed of stage I, all workers together; the other stages follow from it.",
)
@click.option(
    "--calibrate",
    "measure",
    is_flag=True,
    help="Measure some steps on this machine, for about ten seconds.",
)
@click.option(
    "--address",
    metavar="URL",
    help="Ray's dashboard on a cluster's head node: does it "
    "have what the workers ask for? Left out: the cluster in RAY_ADDRESS, or this machine.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    config_file: str,
    images: int | None,
    test_images: int | None,
    classes: int | None,
    images_per_second: float | None,
    measure: bool,
    address: str | None,
    as_json: bool,
    **flags: str | None,
) -> None:
    """Print what dsnet run would do with a configuration; nothing is run, and nothing written.

    Stage by stage: whether its result exists, steps, images, multiply-adds and bytes read; whether
    the cluster can ever hold the workers; what storage and memory they take. Times are an estimate,
    from a speed that is stated (--images-per-second) or measured here (--calibrate), and from
    constants; without either there are none.

    \b
    Examples:
      dsnet plan --config jobs/configs/digits.yaml --calibrate
      dsnet plan --config jobs/configs/imagenet_mbnet.yaml --images 1281167 --test-images 50000 \\
          --images-per-second 4000
      dsnet plan --config FILE --address http://127.0.0.1:8265 --json
    """
    if measure and images_per_second is not None:
        raise click.UsageError("expected --calibrate or --images-per-second, found both")
    config = configuration(config_file, flags)
    with working():
        from pipeline.runner.estimate.document import document  # PyTorch takes seconds

        counts = images, test_images, classes
        found = document(config, counts, _resources(address), images_per_second, measure)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _resources(address: str | None) -> "Resources":
    from jobs import resources

    if address is not None:
        return resources.of_dashboard(address)
    if (running := os.environ.get("RAY_ADDRESS")) and "://" not in running:
        return resources.of_running_ray(running)
    import torch

    return resources.of_this_machine(torch.cuda.device_count())


def _print(found: dict[str, Any]) -> None:
    data, resources = found["data"], found["resources"]
    rows = [
        (
            row["stage"],
            "runs" if row["runs"] else "reused",
            _or(row.get("steps"), "{:,}"),
            _or(row.get("images"), "{:,}"),
            _or(row.get("madds") or None, "{:.3g}"),
            _bytes(row.get("bytes_read", 0)),
            _or(row.get("seconds"), "{}", clock),
            row["why"],
        )
        for row in found["stages"]
    ]
    columns = ("stage", "", "steps", "images", "multiply-adds", "read", "estimate", "why")
    print_table(
        columns,
        rows,
        f"{found['name']}: {data['train']:,} training and {data['test']:,} test images of "
        f"{data['source']} ({data['known']})",
    )
    print_table(
        ("resources", "asked", "there"),
        [
            ("workers", _span(resources), f"{resources['places']} fit"),
            ("CPUs", f"{resources['cpus_per_worker']:g} each", f"{resources['cpus']:g}"),
            ("GPUs", f"{resources['gpus_per_worker']:g} each", f"{resources['gpus']:g}"),
        ],
        f"on {resources['where']}: {_fits(resources)}",
    )
    kept = found["storage_bytes"]
    print_table(
        ("storage", "computed"),
        [(name.replace("_", " "), _bytes(size)) for name, size in kept.items()],
    )
    _print_times(found)


def _print_times(found: dict[str, Any]) -> None:
    if found["seconds"] is None:
        click.echo(
            "no times: --images-per-second X states a speed, --calibrate measures this machine's"
        )
        return
    rows = [
        (part["what"], clock(part["seconds"]), part["how"]) for part in found["seconds"]["parts"]
    ]
    rows.append(("in all", clock(found["seconds"]["total"]), found["speed"]["how"]))
    print_table(("time", "estimate", "how"), rows)


def _span(resources: dict[str, Any]) -> str:
    fewest, most = resources["min_workers"], resources["workers"]
    return f"{most}" if fewest == most else f"{fewest} to {most}"


def _fits(resources: dict[str, Any]) -> str:
    if resources["fits"]:
        return "the workers fit"
    if resources["ever_fits"]:
        return "the workers do not fit now, and the cluster may grow"
    return "the workers never fit; ask for fewer (cluster.workers) or a larger cluster"


def _or(value: Any, form: str, show: Any = lambda value: value) -> str:
    return "" if value is None else form.format(show(value))


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
