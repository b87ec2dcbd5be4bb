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

    Shares are of the widest sub-network that gates may pick, as in targets and budgets. The largest
    is the widest of everything, from the first layer on: it teaches the others in training, and
    where gates keep the first layers slim they cannot pick it.

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
    widest = counts[model.space.routes[-1] if model.space.routes else -1]
    name = "largest" if model.space.largest in model.space else "largest, which no gate picks"
    print_table(
        ("sub-network", "multiply-adds", "of the widest routable"),
        [
            (str(label), count, f"{count / widest:.1%}")
            for label, count in [*enumerate(counts), (name, largest)]
        ],
        title=f"{arch} at {resolution}x{resolution} pixels",
    )
