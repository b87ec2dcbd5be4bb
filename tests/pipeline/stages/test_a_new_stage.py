"""A stage is one file: here `rounding.py`, of which nothing else knows."""

from pathlib import Path

import pytest
import torch

import dsnet
from pipeline.config import load_config
from pipeline.data.split import holdout
from pipeline.stages.stage import Upstream
from pipeline.store.fingerprint import fingerprint
from pipeline.training.evaluation import Evaluation
from tests.pipeline.stages import rounding
from tests.pipeline.stages.tiny import Tiny


def fingerprint_of(**fields: str) -> str:
    flags = {name.replace("__", "."): text for name, text in fields.items()}
    return fingerprint(
        rounding.SPEC, load_config(None, flags), inputs=["parent"], dataset_digest="data"
    )


def test_it_runs_on_what_is_upstream_and_hands_on_its_model_and_counts(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path)
    worker = tiny.run(rounding.STAGE)
    model = dsnet.load(worker.directory / "model")
    before = dict(tiny.model.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name].bfloat16().float()), name
    counts = Evaluation.from_dict(worker.metrics[-1]["evaluation"])
    _, aside = holdout(tiny.dataset.train, tiny.config.data.holdout, tiny.config.seed)
    assert counts.images == len(aside)


@pytest.mark.parametrize(("field", "text"), [("data__holdout", "0.2"), ("seed", "1")])
def test_its_fingerprint_changes_with_the_fields_that_it_declares(field: str, text: str) -> None:
    assert fingerprint_of(**{field: text}) != fingerprint_of()


@pytest.mark.parametrize(
    ("field", "text"), [("evaluate__batch_size", "7"), ("gate__lr", "1"), ("plugins", "mine")]
)
def test_its_fingerprint_does_not_change_with_others(field: str, text: str) -> None:
    assert fingerprint_of(**{field: text}) == fingerprint_of()


def test_a_stage_that_goes_on_from_a_model_cannot_be_the_first(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path)
    with pytest.raises(ValueError, match="cannot be the first"):
        rounding.STAGE.inputs.of(Upstream(tiny.config, tiny.dataset))
