"""A model directory as MLflow's python_function: images in, a table of answers out.

MLflow imports this module, from the version's own `code` folder where this project is not
installed, and calls `_load_pyfunc`. It runs on ONNX Runtime where that and a `model.onnx` are
there, else on torch. Beside either it needs NumPy, Pillow, safetensors and what MLflow brings.
"""

import functools
import importlib.util
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dsnet.errors import InputError
from dsnet.errors.text import line
from dsnet.io.files import SUMS, first_damaged, sha256
from dsnet.io.version_files import ADDED_CONTENT, CONTENT, NAMED, added_digest
from dsnet.routing.target import Target
from dsnet.runtime.answers import classified, spent
from dsnet.runtime.exported import Exported
from dsnet.runtime.inputs import one_by_one, read
from dsnet.runtime.pixels import prepare, shorter_side
from dsnet.runtime.session import ONNX, Outputs
from dsnet.runtime.tiles import Surroundings, restore

logger = logging.getLogger(__name__)

BATCH = 64  # images that are held decoded at a time
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# As MLflow writes it, in YAML, which is none of the few packages that this may need.
_NAMED_AS = re.compile(r"""model_name: ['"]?([^\s'"]+)['"]?\nmodel_version: ['"]?(\d+)""")


class Runner(Protocol):
    """What runs a model; see `Exported`."""

    task: str
    metadata: dict[str, Any]
    pictures: Surroundings | None

    def __call__(self, images: np.ndarray, budget: Target | float | str | None = None) -> Outputs:
        """images: uint8 (N, R, R, 3) -> what they are answered."""


class InTorch:
    """A model directory in torch, as `Exported`."""

    def __init__(self, directory: Path):
        from dsnet.inference.reach import surroundings
        from dsnet.io import weights

        self._directory = directory
        model = weights.load(directory)
        self.task = model.task.name
        self.metadata = model.metadata.to_dict()
        self.pictures = surroundings(model)
        self._predictor(None)  # what is wrong with it is said when it is loaded

    def __call__(self, images: np.ndarray, budget: Target | float | str | None = None) -> Outputs:
        """As `Exported`."""
        outputs, widths, madds = self._predictor(budget).routed(images)
        return outputs.numpy(), widths.numpy(), madds.numpy()

    @functools.lru_cache(maxsize=4)  # noqa: B019  budgets come from outside: not without bound
    def _predictor(self, budget: Target | float | str | None) -> Any:
        from dsnet.inference.predictor import Predictor

        return Predictor(self._directory, budget)


class Model:
    """What `mlflow.pyfunc.load_model` wraps."""

    def __init__(self, runner: Runner):
        self._runner = runner

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """A pandas DataFrame with label, class, confidence, width and madds of every image.

        model_input: see `dsnet.runtime.inputs.EXPECTED`. params: `budget`, a fraction of the widest
        or a count of multiply-adds, and `top_k`, which adds the columns labels, classes and
        confidences. A model whose outputs are pictures answers with `picture`, uint8 (H, W, 3) of
        each image's own size, width (of most of it) and madds; one of another task with `output`,
        width and madds. Raises MlflowException, which a server answers with 400, for a wrong input.
        """
        try:
            return self._predicted(one_by_one(model_input), dict(params or {}))
        except InputError as error:
            from mlflow.exceptions import MlflowException

            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _predicted(self, images: list[Any], params: dict[str, Any]) -> Any:
        import pandas as pd

        # Text that strangers send names no file of ours.
        files = os.environ.get("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "").lower() != "true"
        budget, top_k = params.get("budget"), params.get("top_k")
        if self._runner.pictures is not None:
            return pd.DataFrame(self._restored(images, budget, files))
        parts = []
        for start in range(0, len(images), BATCH) or [0]:
            batch = images[start : start + BATCH]
            pixels = [
                self._prepared(image, f"image {start + index}", files)
                for index, image in enumerate(batch)
            ]
            side = self._runner.metadata["resolution"]
            stacked = np.stack(pixels) if pixels else np.zeros((0, side, side, 3), np.uint8)
            parts.append(self._answers(stacked, budget, 1 if top_k is None else int(top_k)))
        columns = {key: [item for part in parts for item in part[key]] for key in parts[0]}
        return pd.DataFrame(columns)

    def _restored(self, images: list[Any], budget: Any, files: bool) -> dict[str, list[Any]]:
        """Pictures, uint8 (H, W, 3), each as large as what it was made of."""
        assert self._runner.pictures is not None
        restored = []
        for index, image in enumerate(images):
            place = f"image {index}"
            picture = read(image, place, files=files)
            restored.append(
                restore(
                    lambda x: self._runner(x, budget), picture, self._runner.pictures, place=place
                )
            )
        return {
            "picture": [each.picture for each in restored],
            "width": [each.width for each in restored],
            "madds": [each.madds for each in restored],
        }

    def _prepared(self, image: Any, place: str, files: bool) -> np.ndarray:
        side, crop = self._runner.metadata["resolution"], self._runner.metadata["crop"]
        pixels = read(image, place, files=files, enough=shorter_side(side, crop))
        if isinstance(image, np.ndarray) and pixels.shape == (side, side, 3):
            return pixels  # prepared already, as `Predictor` takes it
        return prepare(pixels[None], side, crop)[0]

    def _answers(self, pixels: np.ndarray, budget: Any, top_k: int) -> dict[str, list[Any]]:
        outputs, widths, madds = self._runner(pixels, budget)
        if self._runner.task != "classification":
            return {"output": [*outputs], **spent(widths, madds)}
        return classified(outputs, widths, madds, self._runner.metadata["classes"], top_k)


def _load_pyfunc(path: str) -> Model:
    """The model in the folder `path`. Raises InputError for a damaged one, or without a runtime.

    And for a version whose files are not those that its tags in the registry name.
    """
    directory = Path(path)
    if not (directory / SUMS).is_file():
        raise InputError(f"{directory} is no version of a model: it has no {SUMS}; fetch it again")
    if (damaged := first_damaged(directory, ("model.json", "weights.safetensors"))) is not None:
        raise InputError(f"{directory / damaged} is not as it was registered; fetch it again")
    _check_registered(directory)
    has_file = (directory / ONNX).is_file()
    if has_file and importlib.util.find_spec("onnxruntime") is not None:
        return Model(Exported(directory))
    if importlib.util.find_spec("torch") is not None:
        return Model(InTorch(directory))
    wanted = "onnxruntime or torch" if has_file else f"torch (there is no {ONNX})"
    raise InputError(f"{directory}: running this model needs {wanted}, which is not installed")


def _check_registered(directory: Path) -> None:
    """Compare a version's files with its tags, where MLflow knows which it is and where to ask.

    SHA256SUMS lies beside the files, and whoever changes one can change the other. Raises
    InputError for other files; a registry that does not answer is a warning.
    """
    import mlflow

    if not (directory / NAMED).is_file() or not mlflow.is_tracking_uri_set():
        return
    if (named := _NAMED_AS.search((directory / NAMED).read_text(errors="replace"))) is None:
        return
    name, number = named.groups()
    try:
        with _asked_once():
            tags = mlflow.MlflowClient().get_model_version(name, number).tags
    except Exception as error:  # of MLflow, its stores and the network: of many kinds
        logger.warning(
            "%s: its files are as %s beside them says, which could not be compared with the "
            "version's tags in the registry: %s",
            directory,
            SUMS,
            line(error),
        )
        return
    found = {CONTENT: sha256(directory / SUMS), ADDED_CONTENT: added_digest(directory)}
    # A version that something else has registered has no such tags.
    if other := [tag for tag, digest in found.items() if tags.get(tag, digest) != digest]:
        raise InputError(
            f"models:/{name}/{number}: expected the files that were registered, found others "
            f"(its tag {other[0]} is another digest); its artifacts were changed, load another "
            "version"
        )


@contextmanager
def _asked_once() -> Iterator[None]:
    """Within, MLflow's client gives up on a server at once: it would ask for four minutes."""
    before = os.environ.get(_RETRIES)
    os.environ[_RETRIES] = "0"
    try:
        yield
    finally:
        os.environ.pop(_RETRIES)
        os.environ.update({} if before is None else {_RETRIES: before})
