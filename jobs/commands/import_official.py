"""dsnet import-official: a checkpoint of the official code into a model directory."""

import click

from jobs.output import json_flag, print_json, print_table, working


@click.command("import-official")
@click.argument("checkpoint", metavar="CHECKPOINT")
@click.argument("directory", metavar="DIR")
@click.option(
    "--resolution",
    type=click.IntRange(min=1),
    default=224,
    show_default=True,
    metavar="PIXELS",
    help="Height and width of the images it was trained on.",
)
@json_flag
def command(checkpoint: str, directory: str, resolution: int, as_json: bool) -> None:
    """Convert the official DS-MBNet CHECKPOINT into the model directory DIR.

    CHECKPOINT is a .pth.tar as the official code writes it, of which the moving average is taken
    where there is one, or a .safetensors file of the same tensors. It may hold tensors and plain
    values alone: nothing in it is run. Widths, blocks, routes and classes are read off its shapes;
    normalisation is ImageNet's.

    \b
    Examples:
      dsnet import-official model_best.pth.tar ./ds-mbnet
      dsnet predict ./ds-mbnet photo.jpg
      dsnet register ./ds-mbnet --config jobs/configs/imagenet_mbnet.yaml --as-supernet
    """
    from dsnet.io.official import import_official

    with working():
        model = import_official(checkpoint, directory, resolution=resolution)
    counts = [model.madds(width=index) for index in range(len(model.space))]
    routes = list(model.space.routes)
    if as_json:
        print_json(
            {
                "directory": directory,
                "arch": model.architecture.name,
                "classes": model.architecture.num_classes,
                "resolution": resolution,
                "largest": model.madds(width=model.space.largest),
                "subnetworks": counts,
                "routes": routes,
            }
        )
        return
    rows = [
        (str(index), count, "yes" if index in routes else "") for index, count in enumerate(counts)
    ]
    print_table(
        ("sub-network", "multiply-adds", "the gate may pick it"),
        rows,
        title=f"{model.architecture.name} in {directory}, "
        f"{model.architecture.num_classes} classes, {resolution}x{resolution} pixels",
    )
