"""What a run says before its first stage: what is there, what is to be made, and why."""

from pipeline import chain
from pipeline.chain import ChainResult
from pipeline.config import Config
from pipeline.data.dataset import ingest
from pipeline.runner.plan import plan
from tests.pipeline.chain.conftest import configured


def said(config: Config) -> list[str]:
    steps = plan(config, ingest(config), [stage.spec for stage in chain.SUPERNET], None)
    return [str(step) for step in steps]


def test_what_was_made_is_found_stage_by_stage(result: ChainResult) -> None:
    supernet, calibrated, gated = (version.uri for version in result.versions)
    assert said(configured()) == [
        f"supernet: found as {supernet}",
        f"calibrate: found as {calibrated}",
        f"gate: found as {gated}",
        f"evaluate: found in {gated}",
    ]


def test_a_field_that_changed_is_named_and_what_follows_from_it_is_run(result: ChainResult) -> None:
    supernet, calibrated, gated = (version.uri for version in result.versions)
    assert said(configured(gate={"target": 0.4}))[2] == (
        f"gate: will train: gate.target changed from 0.5 to 0.4 since {gated}"
    )
    lines = said(configured(supernet={"epochs": 2}))
    assert lines[0] == f"supernet: will train: supernet.epochs changed from 6 to 2 since {supernet}"
    assert lines[1:] == [
        f"calibrate: will run: its input changed since {calibrated}",
        f"gate: will train: its input changed since {gated}",
        "evaluate: will run: the gate is new",
    ]


def test_a_new_name_has_nothing_yet(result: ChainResult) -> None:
    assert said(configured(name="unheard"))[0] == (
        "supernet: unheard-supernet not found; will train"
    )
