"""A model directory run from its ONNX file: any budget, by any of its gates, without torch."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from dsnet.errors import InputError
from dsnet.errors.text import shown
from dsnet.io.description import GATES, read_description
from dsnet.routing.curve import nearest, price_at
from dsnet.routing.target import Target, parse_target
from dsnet.runtime.session import DESCRIPTION, HEAD, ONNX, Outputs, Session
from dsnet.runtime.tiles import Surroundings

BATCH = 16  # images at a time: enough to fill every branch, few enough for a cache


class Exported:
    """`model.onnx` and, for budgets, `model.json` and `gates.safetensors` beside it.

    task: name of what it is for. metadata: as `dsnet.models.metadata.Metadata`, plain values.
    pictures: where it answers with pictures, what it needs around a pixel.
    madds: of each sub-network; routes: those that the gate may pick. average: multiply-adds per
    image without a budget, where that is known. threads: of each operator; None: one per core.
    Raises InputError where onnxruntime is missing.
    """

    def __init__(self, directory: Path, threads: int | None = None):
        self._directory = directory
        self._session = Session(directory / ONNX, threads=threads)
        about = json.loads(self._session.metadata[DESCRIPTION])
        self.task: str = about["task"]
        self.metadata: dict[str, Any] = about["metadata"]
        self.madds: list[int] = about["madds"]
        self.routes: list[int] = about["routes"]
        self.pictures = Surroundings(**about["pictures"]) if "pictures" in about else None
        description = read_description(directory)
        self.average: float | None = description["runs_at"].get("average_madds")
        self._gates = description["gates"]

    def __call__(self, images: np.ndarray, budget: Target | float | str | None = None) -> Outputs:
        """images: uint8 (N, R, R, 3), R the model's resolution -> what they are answered.

        budget: average multiply-adds to spend; None: as the model was tuned. Raises InputError for
        one out of range.
        """
        price, gate = (None, None) if budget is None else self._price(parse_target(budget))
        heads = {} if gate is None else self._heads(gate)
        parts = [images[at : at + BATCH] for at in range(0, len(images), BATCH)] or [images]
        results = [self._session(part, price, heads) for part in parts]
        logits, widths, madds = (np.concatenate(each) for each in zip(*results, strict=True))
        return logits, widths, madds

    def _price(self, target: Target) -> tuple[float, int | None]:
        """The price that meets a budget, and the gate to take; None: the one in place."""
        madds = target.madds([self.madds[route] for route in self.routes])
        if self._gates:
            index, exactly = nearest([gate["target"] for gate in self._gates], madds)
            gate = self._gates[index]
            return gate["price"] if exactly else price_at(gate["prices"], madds), index
        if not self.metadata["prices"]:
            raise InputError(f"budget {target}: this model has no calibrated prices to meet one")
        return price_at(self.metadata["prices"], madds), None

    @functools.cache  # noqa: B019  as few as a model has gates
    def _heads(self, gate: int) -> dict[str, np.ndarray]:
        """The slimming heads of one gate, by input of the file."""
        from safetensors import safe_open

        prefix, path = f"{gate}.", self._directory / GATES
        heads: dict[str, np.ndarray] = {}
        with safe_open(path, framework="numpy") as file:
            for name in (name for name in file.keys() if name.startswith(prefix)):  # noqa: SIM118
                if (found := file.get_slice(name).get_dtype()) != "F32":
                    raise InputError(f"{path}: {shown(name)} should be float32, is {found}")
                heads[HEAD + name.removeprefix(prefix)] = file.get_tensor(name)
        inputs = {k: shape for k, shape in self._session.inputs.items() if k.startswith(HEAD)}
        if {name: value.shape for name, value in heads.items()} != inputs:
            raise InputError(
                f"{ONNX} does not take gate {gate}, which is of another kind than its own: this "
                "budget needs torch (pip install torch)"
            )
        return heads
