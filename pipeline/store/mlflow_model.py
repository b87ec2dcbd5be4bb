"""What makes a model directory an MLflow model: added to its files, which stay as they are.

MLmodel (flavours, signature), requirements, an input example, the card as README.md with its
picture, and `code`: the part of `dsnet` that runs a model, so that `mlflow.pyfunc.load_model` needs
nothing of this project.
"""

import base64
import importlib.metadata
import io
import json
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, DataType
from PIL import Image

import dsnet
from dsnet import DSNet
from dsnet.io.version_files import (
    CODE,
    CONDA,
    EXAMPLE,
    MLMODEL,
    PICTURE,
    PYTHON_ENV,
    README,
    REQUIREMENTS,
    SERVING_EXAMPLE,
    added_digest,
)
from dsnet.runtime.inputs import COLUMN
from dsnet.runtime.session import ONNX


def add(
    directory: Path,
    model: DSNet,
    card: str,
    picture: str | None,
    *,
    run_id: str,
    model_id: str,
    made: int,
) -> str:
    """Add to a model directory what makes it an MLflow model; returns the digest of what was added.

    card: text of README.md. picture: the SVG that it shows, where it does. run_id, model_id:
    MLflow's. made: when, in ms since 1970. The same arguments give the same files.
    """
    _copy_code(directory / CODE)
    (directory / README).write_text(card)
    if picture is not None:
        (directory / PICTURE).write_text(picture)
    _write_example(directory, model.metadata.resolution)
    _write_environment(directory)
    described = Model(
        artifact_path="model",
        run_id=run_id,
        model_id=model_id,
        model_uuid=model_id,
        utc_time_created=str(datetime.fromtimestamp(made / 1000, UTC).replace(tzinfo=None)),
        signature=signature(model),
        saved_input_example_info={
            "artifact_path": EXAMPLE,
            "serving_input_path": SERVING_EXAMPLE,
            "type": "dataframe",
            "pandas_orient": "split",
        },
    )
    environment = {"conda": CONDA, "virtualenv": PYTHON_ENV}
    described.add_flavor(
        "python_function",
        loader_module="dsnet.pyfunc",
        python_version=platform.python_version(),
        code=CODE,
        env=environment,
    )
    if (directory / ONNX).is_file():
        described.add_flavor(
            "onnx",
            data=ONNX,
            onnx_version=importlib.metadata.version("onnx"),
            providers=["CUDAExecutionProvider", "CPUExecutionProvider"],
            code=None,
        )
    described.save(str(directory / MLMODEL))
    return added_digest(directory)


def signature(model: DSNet) -> ModelSignature:
    """What `predict` returns, and its parameters.

    Of its input nothing is said: MLflow knows no schema for arrays, bytes, base64 and paths alike,
    and would refuse all but one of them. The example and the card show it.
    """
    params = ParamSchema(
        [ParamSpec("budget", DataType.double, None), ParamSpec("top_k", DataType.long, 1)]
    )
    cost = [ColSpec(DataType.long, "width"), ColSpec(DataType.long, "madds")]
    if not model.task.labelled:
        return ModelSignature(params=params)
    answer = [
        ColSpec(DataType.long, "label"),
        ColSpec(DataType.string, "class", required=bool(model.metadata.classes)),
        ColSpec(DataType.double, "confidence"),
    ]
    ranked = [
        ColSpec(Array(kind), name, required=False)
        for name, kind in (
            ("labels", DataType.long),
            ("classes", DataType.string),
            ("confidences", DataType.double),
        )
    ]
    return ModelSignature(outputs=Schema([*answer, *cost, *ranked]), params=params)


def _copy_code(folder: Path) -> None:
    """`dsnet` without what only trains, converts or starts the command line."""
    shutil.copytree(
        Path(dsnet.__file__).parent,
        folder / "dsnet",
        ignore=shutil.ignore_patterns("__pycache__", "training", "official.py", "command.py"),
    )


def _write_example(directory: Path, side: int) -> None:
    """One picture, as PNG in base64: a gradient, as no picture of the data may be shown."""
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(128)), axis=2)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    data = [[base64.b64encode(encoded.getvalue()).decode()]]
    split = {"columns": [COLUMN], "data": data}
    (directory / EXAMPLE).write_text(json.dumps(split))
    (directory / SERVING_EXAMPLE).write_text(json.dumps({"dataframe_split": split}, indent=2))


def _write_environment(directory: Path) -> None:
    """The packages that loading needs, at the versions that this one was made with."""
    runtime = "onnxruntime" if (directory / ONNX).is_file() else "torch"
    # A local version (2.11+cpu) is on no index.
    pins = [
        f"{name}=={importlib.metadata.version(name).partition('+')[0]}"
        for name in ("mlflow", "numpy", "pillow", "safetensors", runtime)
    ]
    python = platform.python_version()
    (directory / REQUIREMENTS).write_text("".join(f"{pin}\n" for pin in pins))
    (directory / PYTHON_ENV).write_text(
        f"python: {python}\nbuild_dependencies:\n- pip\ndependencies:\n- -r {REQUIREMENTS}\n"
    )
    listed = "".join(f"  - {pin}\n" for pin in pins)
    (directory / CONDA).write_text(
        f"name: mlflow-env\nchannels:\n- conda-forge\ndependencies:\n- python={python}\n- pip\n"
        f"- pip:\n{listed}"
    )
