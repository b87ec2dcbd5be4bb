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
        f"supernet: {supernet} is there",
        f"calibrate: {calibrated} is there",
        f"gate: {gated} is there",
        f"evaluate: {gated} has its figures",
    ]


def test_a_field_that_changed_is_named_and_what_follows_from_it_is_run(result: ChainResult) -> None:
    supernet, calibrated, gated = (version.uri for version in result.versions)
    assert said(configured(gate={"target": 0.4}))[2] == (
        f"gate: to be run, since {gated}: gate.target was 0.5, is 0.4"
    )
    lines = said(configured(supernet={"epochs": 2}))
    assert lines[0] == f"supernet: to be run, since {supernet}: supernet.epochs was 5, is 2"
    assert lines[1:] == [
        f"calibrate: to be run, what it goes on from is new since {calibrated}",
        f"gate: to be run, what it goes on from is new since {gated}",
        "evaluate: to be run, as the gate is",
    ]


def test_a_new_name_has_nothing_yet(result: ChainResult) -> None:
    assert said(configured(name="unheard"))[0] == (
        "supernet: to be run, unheard-supernet has none yet"
    )
