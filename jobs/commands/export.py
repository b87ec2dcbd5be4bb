"""dsnet export: a model as one ONNX file with the routing inside."""

import click

from jobs.output import json_flag, print_path, working


@click.command("export")
@click.argument("model", metavar="MODEL")
@click.argument("path", metavar="OUT.onnx")
@click.option(
    "--width",
    type=click.IntRange(min=0),
    metavar="INDEX",
    help="Export this sub-network alone; left out: the gate chooses for each image.",
)
@click.option(
    "--budget",
    metavar="TARGET",
    help="Multiply-adds to spend on average, 0.5 or 200M: the file routes by the gate that was "
    "trained nearest to it; left out: the target of MODEL's alias, else as the model was tuned.",
)
@click.option("--opset", type=int, metavar="N", help="Version of ONNX's operators; left out: 17.")
@click.option("--float16", is_flag=True, help="Store weights in half precision: half the size.")
@json_flag
def command(
    model: str,
    path: str,
    width: int | None,
    budget: str | None,
    opset: int | None,
    float16: bool,
    as_json: bool,
) -> None:
    """Write MODEL, a models:/ URI or a model directory, as an ONNX file.

    The file runs in plain ONNX Runtime. Inputs: images, uint8 (N, R, R, 3) where R is the model's
    resolution, and price, one float: what multiply-adds cost in units of the gate's logits. Left
    out, the file spends what --budget, MODEL's alias or its tuning says. Outputs: logits (N,
    classes) and widths (N). Once written it is loaded, run and compared with the model.

    \b
    Examples:
      dsnet export models:/digits@champion digits.onnx
      dsnet export ./digits digits-slim.onnx --width 0
      dsnet export ./digits digits-half.onnx --float16
    """
    from dsnet.inference.export import OPSETS, export
    from pipeline.predict.model import open_model

    with working():
        written = export(
            open_model(model, budget),
            path,
            width=width,
            opset=OPSETS[0] if opset is None else opset,
            float16=float16,
        )
    print_path(written, as_json)
