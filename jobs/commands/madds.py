"""dsnet madds: what each sub-network of an architecture costs, or a list of architectures."""

from typing import Any

import click

from jobs.output import json_flag, print_json, print_table


@click.command("madds")
@click.argument("arch", metavar="[ARCH]", required=False)
@click.option(
    "--resolution",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Height and width of the images; left out: the architecture's own.",
)
@json_flag
def command(arch: str | None, resolution: int | None, as_json: bool) -> None:
    """Print the multiply-adds per image of every sub-network of ARCH, slimmest first; without ARCH,
    every architecture that there is for model.arch, with its slimmest and its widest. One without
    gates gets them from model.gates, by default one in its middle stage.

    Shares are of the widest sub-network that gates may pick, as in targets and budgets. The largest
    is the widest of everything, from the first layer on: it teaches the others in training, and
    where gates keep the first layers slim they cannot pick it.

    \b
    Examples:
      dsnet madds
      dsnet madds ds_mbnet
      dsnet madds ds_mbnet --resolution 160 --json
    """
    if arch is None:
        _list(resolution, as_json)
        return
    from dsnet import create_model

    model = create_model(arch)
    resolution = resolution or model.metadata.resolution
    counts = [model.madds(width=index, resolution=resolution) for index in range(len(model.space))]
    largest = model.madds(width=model.space.largest, resolution=resolution)
    if as_json:
        print_json(
            {"arch": arch, "resolution": resolution, "largest": largest, "subnetworks": counts}
        )
        return
    widest = counts[_widest(model)]
    name = "largest" if model.space.largest in model.space else "largest, which no gate picks"
    print_table(
        ("sub-network", "multiply-adds", "of the widest routable"),
        [
            (str(label), count, f"{count / widest:.1%}")
            for label, count in [*enumerate(counts), (name, largest)]
        ],
        title=f"{arch} at {resolution}x{resolution} pixels",
    )


def _list(resolution: int | None, as_json: bool) -> None:
    from dsnet import create_model
    from dsnet.models.registry import ARCHITECTURES

    rows: list[dict[str, Any]] = []
    for name, architecture in ARCHITECTURES.items():
        model = create_model(name)
        side = resolution or model.metadata.resolution
        rows.append(
            {
                "arch": name,
                "family": architecture.family,
                "task": model.task.name,
                "resolution": side,
                "subnetworks": len(model.space),
                "slimmest": model.madds(width=0, resolution=side),
                "widest": model.madds(width=_widest(model), resolution=side),
                "parameters": sum(each.numel() for each in model.parameters()),
                "gates": len(model.gates),
            }
        )
    if as_json:
        print_json(rows)
        return
    keys = ("arch", "family", "task", "resolution", "subnetworks", "slimmest", "widest")
    print_table(
        (*keys, "widest / slimmest", "parameters", "gates"),
        [
            (
                *(row[key] for key in keys),
                f"{row['widest'] / row['slimmest']:.1f}",
                row["parameters"],
                row["gates"],
            )
            for row in rows
        ],
        title="architectures, and the multiply-adds per image of their sub-networks",
    )


def _widest(model: Any) -> int:
    """The index of the widest sub-network that gates may pick."""
    return int(model.space.routes[-1]) if model.space.routes else len(model.space) - 1
