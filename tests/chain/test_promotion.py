"""A chain gives its version aliases once: not again when it is repeated, and late if killed."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import chain, registry, tracking
from pipeline.chain import ChainResult
from pipeline.registry import Version
from tests.chain.conftest import configured

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def later(result: ChainResult, tmp_path: Path) -> Iterator[Version]:
    """A version of the same name for the same target, champion since, as a sweep would leave it."""
    first = result.version
    version = registry.register(
        first.name,
        registry.pull(first.uri, tmp_path / "model"),
        stage="gate",
        run_id=None,
        tags={k: first.tags[k] for k in registry.REQUIRED_TAGS} | {"fingerprint": "of a sweep"},
        metrics=first.metrics,
        aliases=("target-50pct", "champion"),
    )
    yield version
    for alias in ("target-50pct", "champion"):
        registry.set_alias(first.name, alias, first.version)
    tracking.client().delete_model_version(version.name, str(version.version))


def test_a_finished_chain_that_is_run_again_changes_nothing(
    result: ChainResult, later: Version, caplog: pytest.LogCaptureFixture
) -> None:
    before = registry.versions()
    with caplog.at_level(logging.INFO):
        again = chain.run(configured())
    assert registry.versions() == before
    assert again.version.version == result.version.version and not again.version.aliases
    assert f"{result.version.uri} is there already, no alias changes" in caplog.text


def test_a_chain_killed_after_its_evaluation_is_promoted_when_it_is_run_again(
    result: ChainResult,
) -> None:
    name, number = result.version.name, str(result.version.version)
    client = tracking.client()
    # What such a chain has not come to yet.
    for tag in ("promotion", "target", "test_images"):
        client.delete_model_version_tag(name, number, tag)
    for alias in result.version.aliases:
        registry.remove_alias(name, alias)
    again = chain.run(configured())
    assert again.version == result.version


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
        assert row.stderr == pytest.approx((row.top1 * (1 - row.top1) / 360) ** 0.5)
