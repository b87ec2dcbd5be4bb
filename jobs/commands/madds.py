"""dsnet madds: what each sub-network of an architecture costs."""

import click

from jobs.output import print_json, print_table


@click.command("madds")
@click.argument("arch", metavar="ARCH")
@click.option(
    "--resolution",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Height and width of the images; left out: the architecture's own.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(arch: str, resolution: int | None, as_json: bool) -> None:
    """Print the multiply-adds per image of every sub-network of ARCH, slimmest first.

    \b
    Examples:
      dsnet madds ds_mbnet
      dsnet madds ds_mbnet --resolution 160 --json
    """
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
    rows = [(index, count, count / largest) for index, count in enumerate(counts)]
    print_table(
        ("sub-network", "multiply-adds", "of the largest"),
        [*rows, ("largest", largest, 1.0)],
        title=f"{arch} at {resolution}x{resolution} pixels",
    )
