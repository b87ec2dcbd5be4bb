"""Which version other teams get: by a rule, in one line, once, and by hand where people will."""

import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

import dsnet
from dsnet import InputError
from dsnet.routing.target import parse_target
from pipeline.runner import promotion
from pipeline.runner.promotion import promote, reason_against, rollback, settle, verdict
from pipeline.store import registry, tracking
from pipeline.store.aliases import target_alias
from pipeline.store.registry import Version
from pipeline.training.sanity import Labels

LABELS = Labels(tuple("0123456789"), (40,) * 10, (40,) * 10)
_names = (f"model-{number}" for number in itertools.count())
TWO = Labels(tuple("ab"), (200, 200), (200, 200))


def version(
    top1: float,
    madds: float,
    target: str | None = "0.5",
    *,
    digest: str = "d",
    images: int = 400,
    number: int = 2,
) -> Version:
    tags = {"dataset_digest": digest, "test_images": str(images)}
    tags |= {} if target is None else {"target": target}
    metrics = {"top1": top1, "average_madds": madds}
    return Version("m", number, (), "gate", tags, metrics, "run", "source")


def champion(top1: float, madds: float, *rest: str | None) -> Version:
    return version(top1, madds, *rest, number=1)


@pytest.mark.parametrize(
    ("present", "new", "reason"),
    [
        # The issue's: from 48.6% to 15.3%, cheaper, for another target.
        (champion(0.486, 900, "0.9"), version(0.153, 250, "0.25"), "not a contest (0.25, "),
        (champion(0.486, 900, "0.9"), version(0.99, 250, "0.25"), "not a contest"),
        (champion(0.9, 100, "none"), version(0.9, 100, "0.5"), "not a contest"),
        (champion(0.9, 100, "none"), version(0.4, 50, "none"), "less accurate by 50.00 points"),
        (champion(0.9, 100, "none"), version(0.9, 50, "none"), None),
        (champion(0.9, 100), version(0.95, 100, digest="e"), "other data"),
        (champion(0.9, 100, None), version(0.95, 100), "does not say its target"),
        (champion(0.9, 100), version(0.9, 100), None),  # equal: the newer one
        (champion(0.9, 100), version(0.9, 101), None),
        (champion(0.9, 100), version(0.95, 101.1), "costs 1.1% more"),
        (champion(0.9, 100), version(0.9, 100, number=0), "older"),
        # sqrt(0.5 * 0.5 / 400) is 0.025 of each; of the difference 0.035, and two of it 7.07.
        (champion(0.5, 100), version(0.43, 100), None),
        (champion(0.5, 100), version(0.428, 90), "7.20 points, more than two standard errors"),
        # With 10,000 images the same two figures tell: two standard errors are 1.41 points.
        (
            version(0.5, 100, images=10000, number=1),
            version(0.48, 100, images=10000),
            "difference (1.41)",
        ),
    ],
)
def test_a_champion_goes_only_to_a_later_one_that_is_as_good_at_the_same_target(
    present: Version, new: Version, reason: str | None
) -> None:
    found = reason_against(present, new)
    assert found is None if reason is None else reason in str(found)
    promoted, line = verdict(present, new, LABELS)
    assert promoted is (reason is None)
    assert "\n" not in line
    for each in (present, new):
        assert each.uri in line and f"{each.metrics['top1']:.2%}" in line
    assert ("dsnet rollback m" if promoted else f"dsnet promote m {new.version}") in line


@pytest.mark.parametrize("present", [None, champion(0.5, 100)])
def test_a_version_at_chance_level_is_not_promoted_not_even_the_first(
    present: Version | None,
) -> None:
    # Two classes, 400 images: chance is 50%, its standard error 2.5 points.
    stays = "champion of m stays models:/m/1 (50.00% at 100 MAdds)"
    assert verdict(present, version(0.549, 100), TWO) == (
        False,
        f"{stays if present else 'no champion of m'}, models:/m/2 (54.90% at 100 MAdds) is not "
        "promoted: it is at chance level (50.00%); by hand: dsnet promote m 2",
    )
    assert verdict(present, version(0.551, 100), TWO)[0]


# ------------------------------------------------------------------------- on a registry of its own


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DSNET_HOME with a model directory in it."""
    folder = tmp_path_factory.mktemp("home")
    dsnet.save(dsnet.create_model("ds_mbnet_digits", 2), folder / "model")
    return folder


@pytest.fixture
def name() -> str:
    """A name that nothing is registered under yet."""
    return next(_names)


@pytest.fixture
def make(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Version]:
    """Registers one more version of the name, evaluated and not yet settled."""
    monkeypatch.setenv("DSNET_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.configure()

    def registered(top1: float, madds: float = 100.0) -> Version:
        tags = {"fingerprint": "f", "parent": "", "dataset_digest": "d", "code_version": "c"}
        metrics = {"top1": top1, "average_madds": madds}
        return registry.register(
            name, home / "model", stage="gate", run_id=None, tags=tags, metrics=metrics
        )

    return registered


Make = Callable[..., Version]
HALF, FEW = parse_target("0.5"), parse_target("0.25")


def aliases(name: str) -> dict[str, int]:
    return {alias: v.version for v in registry.versions(name) for alias in v.aliases}


def test_a_version_is_settled_once_and_says_how(
    name: str, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        first = settle(make(0.9), [HALF], LABELS)
        better = settle(make(0.92), [HALF], LABELS)
        cheap = settle(make(0.6, 30.0), [FEW], LABELS)
    assert aliases(name) == {"champion": 2, "previous": 1, "target-50pct": 2, "target-25pct": 3}
    assert (better.tags["target"], better.tags["test_images"]) == ("0.5", "400")
    said = [record.getMessage() for record in caplog.records if record.name == promotion.__name__]
    assert said == [
        first.tags["promotion"],
        f"models:/{name}/2: target-50pct was models:/{name}/1 before",
        better.tags["promotion"],
        cheap.tags["promotion"],
    ]
    assert caplog.records[-1].levelno == logging.WARNING
    # As after a sweep that took the alias, and a promotion by hand: nothing of it is undone.
    registry.set_alias(name, "target-50pct", 3)
    promote(name, 3)
    before = registry.versions(name)
    for each, target in ((first, HALF), (better, HALF), (cheap, FEW)):
        settle(registry.resolve(each.uri), [target], LABELS)
    assert registry.versions(name) == before


def test_one_killed_before_it_was_settled_takes_no_alias_from_a_newer_one(
    name: str, make: Make
) -> None:
    killed = make(0.95)
    settle(make(0.9), [FEW, HALF], LABELS)
    late = settle(killed, [HALF], LABELS)
    assert aliases(name) == {"champion": 2, "target-25pct": 2, "target-50pct": 2}
    assert "it is older" in late.tags["promotion"]


@pytest.mark.parametrize("step", ["previous", "champion"])
def test_one_killed_while_it_was_promoted_ends_like_one_that_was_not(
    name: str, make: Make, step: str
) -> None:
    settle(make(0.9), [HALF], LABELS)
    second = make(0.91)
    # What is written, in this order, up to where the kill came.
    registry.annotate(second, {"target": "0.5", "test_images": "400"}, {})
    registry.set_alias(name, "target-50pct", 2)
    registry.set_alias(name, "previous", 1)
    if step == "champion":
        registry.set_alias(name, "champion", 2)
    settle(registry.resolve(second.uri), [HALF], LABELS)
    assert aliases(name) == {"champion": 2, "previous": 1, "target-50pct": 2}


def test_a_sweeps_version_stands_for_its_middle_target(name: str, make: Make) -> None:
    settle(make(0.9), [HALF], LABELS)
    swept = settle(make(0.91), [FEW, HALF, parse_target("0.8")], LABELS)
    assert swept.tags["target"] == "0.5"
    assert set(swept.aliases) == {"champion", "target-25pct", "target-50pct", "target-80pct"}


def test_people_promote_whatever_they_want_and_go_back_one_step(name: str, make: Make) -> None:
    settle(make(0.9), [HALF], LABELS)
    settle(make(0.3), [HALF], LABELS)
    assert aliases(name)["champion"] == 1
    with pytest.raises(InputError, match=rf"model {name}: .*previous.*{name}/1\), found none"):
        rollback(name)
    assert f"models:/{name}/2, after models:/{name}/1" in promote(name, 2)
    assert (aliases(name)["champion"], aliases(name)["previous"]) == (2, 1)
    assert "already" in promote(name, 2)
    assert f"again models:/{name}/1, after models:/{name}/2" in rollback(name)
    assert aliases(name) == {"champion": 1, "target-50pct": 2}
    with pytest.raises(InputError, match="found none to go back to"):
        rollback(name)
    with pytest.raises(InputError, match=rf"expected a version of {name} \(1, 2\), found 7"):
        promote(name, 7)


@pytest.mark.parametrize(
    ("target", "alias"),
    [("0.5", "target-50pct"), ("0.335", "target-33_5pct"), ("200M", "target-200M")],
)
def test_a_target_has_an_alias_without_dots(target: str, alias: str) -> None:
    assert target_alias(parse_target(target)) == alias
