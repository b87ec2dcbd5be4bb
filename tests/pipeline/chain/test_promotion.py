"""A chain gives its version aliases once: not again when it is repeated, and late if killed."""

import logging
from pathlib import Path

import pytest

from pipeline import chain
from pipeline.chain import ChainResult
from pipeline.store import registry, tracking
from tests.pipeline.chain.conftest import configured, overtaken

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_finished_chain_that_is_run_again_changes_nothing(
    result: ChainResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with overtaken(result.version, tmp_path) as before, caplog.at_level(logging.INFO):
        again = chain.run(configured())
        assert registry.versions(result.version.name) == before
    assert again.version.version == result.version.version and not again.version.aliases
    assert f"{result.version.uri} exists already, no alias changes" in caplog.text


def test_a_chain_killed_after_its_evaluation_is_promoted_when_it_is_run_again(
    result: ChainResult,
) -> None:
    name, number = result.version.name, str(result.version.version)
    before = registry.resolve(result.version.uri)
    client = tracking.client()
    # What such a chain has not come to yet.
    for tag in ("promotion", "target", "test_images"):
        client.delete_model_version_tag(name, number, tag)
    for alias in before.aliases:
        registry.remove_alias(name, alias)
    again = chain.run(configured())
    assert again.version == before


def test_a_chain_says_what_it_trains_on_and_what_its_figures_are_worth(
    result: ChainResult, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        again = chain.run(configured())
    (line,) = [text for text in caplog.messages if text.startswith("small: ")]
    assert line == (
        "small: ds_mbnet_digits on digits (10 classes, 1,437 training and 360 test images), "
        "recipe digits, 8 x 8 pixels"
    )
    assert again.images == 360
    for row in again.rows:
        assert row.stderr == pytest.approx((row.value * (1 - row.value) / 360) ** 0.5)
