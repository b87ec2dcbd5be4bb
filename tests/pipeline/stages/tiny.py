"""Every stage on a tiny input that never changes, and what it computed, as a few numbers.

python -m tests.pipeline.stages.tiny     records what the stages compute now in recorded.json
"""

import json
import tempfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dsnet
from dsnet import DSNet, Metadata
from dsnet.nn.gate import heads_to_tensors
from pipeline.config import Config, config_from_dict
from pipeline.data.dataset import ingest
from pipeline.routing_table.build import build
from pipeline.routing_table.description import describe
from pipeline.routing_table.read import read_table
from pipeline.routing_table.shards import pending
from pipeline.stages import calibrate, evaluate, external, gate, supernet, table, table_gate
from pipeline.stages.stage import Inputs, Stage, Upstream
from pipeline.store.fingerprint import Spec
from pipeline.store.flatten import flatten
from pipeline.training.local_worker import LocalWorker
from tests.pipeline.sweep.made import make_tables

RECORDED = Path(__file__).with_name("recorded.json")
Numbers = dict[str, float]


def tiny_config(folder: Path) -> Config:
    """Half of the digits, in batches so large that an epoch is a handful of steps."""
    return config_from_dict(
        {
            "name": "tiny",
            "data": {"source": "digits", "recipe": "digits", "holdout": 0.5, "dir": str(folder)},
            "model": {"arch": "ds_mbnet_digits", "dropout": 0.1},
            "cluster": {"workers": 1},
            "supernet": {"epochs": 1, "warmup_epochs": 0, "batch_size": 240, "lr": 0.05},
            "calibrate": {"images": 240, "batch_size": 120},
            "gate": {"epochs": 1, "batch_size": 240, "target": 0.5},
            "table": {"steps": 20},
            "evaluate": {"batch_size": 180},
        }
    )


def fixed_model(metadata: Metadata) -> DSNet:
    """A network whose every tensor follows from its name: how a stage initialises is not in it."""
    model = dsnet.create_model("ds_mbnet_digits", 10, metadata=metadata)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            values = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                values = 0.5 + values.abs()
            elif tensor.ndim > 1:
                values *= (2 / tensor[0].numel()) ** 0.5
            elif name.endswith(".weight"):
                values = 1 + 0.1 * values
            tensor.copy_(values)
    return model.eval()


class Tiny:
    """The tiny input of every stage, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, tiny_config(folder)
        self.dataset = ingest(self.config)
        self.metadata = self.dataset.metadata(self.config)
        self.model = fixed_model(self.metadata)

    def run(self, stage: Stage[Inputs]) -> LocalWorker:
        """A stage's loop, from its beginning, as its only worker."""
        directory = Path(tempfile.mkdtemp(dir=self.folder), "checkpoint")
        model = dsnet.save(self.model, self.folder / "input")
        with closing(LocalWorker(self.config, directory)) as worker:
            stage.loop(worker, stage.inputs.of(Upstream(self.config, self.dataset, model)))
        return worker

    def trained(self, stage: Stage[Inputs]) -> Numbers:
        """What a training hands on, tensor by tensor, and what it reported of it."""
        worker = self.run(stage)
        model = dsnet.load(worker.directory / "model")
        counts = worker.metrics[-1]["evaluation"]
        prices = {"price": torch.tensor(model.metadata.price)}
        return of_tensors({**model.state_dict(), **prices}) | of_counts(counts)


def supernet_numbers(tiny: Tiny) -> Numbers:
    return tiny.trained(supernet.STAGE)


def calibrate_numbers(tiny: Tiny) -> Numbers:
    return tiny.trained(calibrate.STAGE)


def gate_numbers(tiny: Tiny) -> Numbers:
    return tiny.trained(gate.STAGE)


def table_numbers(tiny: Tiny) -> Numbers:
    """Two views of some training images, as the table's stage builds them."""
    train = tiny.dataset.train
    indices = np.arange(0, train.samples, 20)
    description = describe(
        tiny.model,
        train,
        indices,
        supernet="models:/tiny-supernet/1",
        fingerprint="f" * 64,
        part="train",
        views=2,
        recipe=tiny.config.data.recipe,
        resolution=tiny.config.data.resolution,
        seed=tiny.config.seed,
    )
    folder = tiny.folder / "table"
    shards = pending(folder, description)
    build(tiny.model, train.beton, indices, folder, description, shards, batch_size=60)
    rows = read_table(folder, description)
    return of_tensors(
        {
            "features": rows.features[0],
            "losses": rows.losses,
            "confidences": rows.confidences,
            "top1": rows.measures["top1"],
            "labels": rows.labels,
            "samples": rows.samples,
            "views": rows.views,
        }
    )


def table_gate_numbers(tiny: Tiny) -> Numbers:
    """A gate on a table that is made up: how tables are built is another stage's."""
    tables = make_tables(tiny.folder / "made", rows=300, holdout=100)
    holdout = tables.read("holdout")
    tuned = table_gate.tuned(
        table_gate.train_on(tiny.config, tables.read("train"), holdout), holdout
    )
    heads = heads_to_tensors(tuned.heads)
    return of_tensors({**heads, "price": torch.tensor(tuned.price)})


def evaluate_numbers(tiny: Tiny) -> Numbers:
    return of_counts(tiny.run(evaluate.STAGE).metrics[-1]["evaluation"])


def external_numbers(tiny: Tiny) -> Numbers:
    return of_counts(tiny.run(external.STAGE).metrics[-1]["evaluation"])


# The stages, each with what it declares and what it computes.
STAGES: dict[str, tuple[Spec, Callable[[Tiny], Numbers]]] = {
    "supernet": (supernet.SPEC, supernet_numbers),
    "calibrate": (calibrate.SPEC, calibrate_numbers),
    "gate": (gate.SPEC, gate_numbers),
    "table": (table.SPEC, table_numbers),
    "table_gate": (table_gate.SPEC, table_gate_numbers),
    "evaluate": (evaluate.SPEC, evaluate_numbers),
    "given": (external.SPEC, external_numbers),
}


def of_tensors(tensors: Mapping[str, Tensor]) -> Numbers:
    """Two numbers for each tensor: its mean, and the mean of its absolute values."""
    numbers = {}
    for name, tensor in tensors.items():
        values = tensor.double()
        numbers[f"{name}, mean"] = float(values.mean())
        numbers[f"{name}, size"] = float(values.abs().mean())
    return numbers


def of_counts(counts: Mapping[str, Any]) -> Numbers:
    """The sums of an evaluation, one number each."""
    return flatten({"evaluation": counts}).values


def main() -> None:
    """Record what every stage computes now, with its revision."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tiny = Tiny(Path(folder))
        recorded = {
            name: {"revision": spec.revision, "numbers": rounded(compute(tiny))}
            for name, (spec, compute) in STAGES.items()
        }
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


def rounded(numbers: Numbers) -> Numbers:
    """Seven digits: what is past them differs from one processor to another."""
    return {name: float(f"{value:.7g}") for name, value in numbers.items()}


if __name__ == "__main__":
    main()
