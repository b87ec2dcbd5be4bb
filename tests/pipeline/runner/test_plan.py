"""What a run says before its first stage, and what --force asks of it: without Ray."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

import dsnet
from dsnet import InputError, create_model
from pipeline import chain
from pipeline.config import Config, config_from_dict, lock_file, stage_dir, storage_dir, table_dir
from pipeline.data.dataset import Dataset, ingest
from pipeline.runner.evaluate import EVALUATED
from pipeline.runner.force import STAGES, Force
from pipeline.runner.forced import begin_forced
from pipeline.runner.plan import Step, announce_plan, plan
from pipeline.store import registry, tracking
from pipeline.store.registry import Version
from tests.embedded_store import embedded_store
from tests.pipeline.sweep.made import make_tables

SPECS = [stage.spec for stage in chain.SUPERNET]
CONFIG = {"name": "planned", "gate": {"target": 0.5}}


def configured(**sections: dict[str, object] | str) -> Config:
    return config_from_dict(CONFIG | sections)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    with embedded_store(tmp_path_factory.mktemp("planned")):
        yield ingest(configured())


def made(step: Step, folder: Path, parent: str = "") -> Version:
    """A step as if it had been run: a registered version with its fingerprint."""
    dsnet.save(create_model("ds_mbnet_digits"), folder)
    return registry.register(
        step.name,
        folder,
        stage=step.stage,
        run_id=None,
        tags={
            "fingerprint": step.key,
            "parent": parent,
            "dataset_digest": "d",
            "code_version": "c",
        },
        metrics={"top1": 0.9, "average_madds": 1.0},
    )


def make_all(config: Config, dataset: Dataset, folder: Path) -> None:
    """Everything that a run of the chain would leave in the registry."""
    version = None
    for step in plan(config, dataset, SPECS):
        if step.stage == "evaluate":
            assert version is not None
            registry.annotate(version, {EVALUATED: step.key}, {})
        elif step.stage != "table":
            version = made(step, folder)


@pytest.fixture(scope="module")
def done(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Where the whole chain has been run."""
    make_all(configured(), dataset, tmp_path_factory.mktemp("model") / "model")
    return dataset


def run_by(steps: list[Step]) -> list[str]:
    return [step.stage for step in steps if step.runs and step.stage != "table"]


def test_a_chain_that_was_run_runs_nothing(done: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    steps = plan(configured(), done, SPECS)
    assert run_by(steps) == []
    with caplog.at_level(logging.INFO):
        announce_plan(steps)
    assert [record.getMessage() for record in caplog.records] == [
        "supernet: found as models:/planned-supernet/1",
        "calibrate: found as models:/planned-supernet/2",
        "gate: found as models:/planned/1",
        "evaluate: found in models:/planned/1",
    ]


@pytest.mark.parametrize(
    "field",
    [{"target": 0.4}, {"sgs": "off"}, {"lambda_complexity": 0.1}, {"method": "straight_through"}],
    ids=lambda field: next(iter(field)),
)
def test_a_field_of_the_gate_runs_the_gate_and_its_evaluation_alone(
    done: Dataset, field: dict[str, object]
) -> None:
    steps = plan(configured(gate={"target": 0.5, **field}), done, SPECS)
    assert run_by(steps) == ["gate", "evaluate"]
    assert str(steps[-1]) == "evaluate: will run: the gate is new"


@pytest.mark.parametrize(
    ("section", "field", "first"),
    [
        ("supernet", {"epochs": 7}, 0),
        ("calibrate", {"images": 100}, 1),
        ("model", {"dropout": 0.0}, 0),
    ],
)
def test_a_field_of_a_stage_runs_it_and_all_after_it(
    done: Dataset, section: str, field: dict[str, object], first: int
) -> None:
    steps = plan(configured(**{section: field}), done, SPECS)
    assert run_by(steps) == ["supernet", "calibrate", "gate", "evaluate"][first:]


def test_a_field_that_is_back_at_what_it_was_before_it_was_there_is_named(
    dataset: Dataset, tmp_path: Path
) -> None:
    dsnet.save(create_model("ds_mbnet_digits"), tmp_path / "model")
    tags = {"fingerprint": "f", "parent": "", "code_version": "c", "dataset_digest": dataset.digest}
    with tracking.chain_run(configured(name="back", supernet={"patience": 5})) as run:
        registry.register(
            "back-supernet",
            tmp_path / "model",
            stage="supernet",
            run_id=run.id,
            tags=tags,
            metrics={"top1": 0.9, "average_madds": 1.0},
        )
    (step, *_) = plan(configured(name="back"), dataset, SPECS)
    assert step.why.endswith(
        "supernet.patience changed from 5 to None since models:/back-supernet/1"
    )


def test_figures_that_were_counted_otherwise_are_counted_again(done: Dataset) -> None:
    version = registry.resolve("models:/planned/1")
    key = version.tags[EVALUATED]
    registry.annotate(version, {EVALUATED: "of before"}, {})
    assert run_by(plan(configured(), done, SPECS)) == ["evaluate"]
    registry.annotate(version, {EVALUATED: key}, {})


def test_a_supernet_with_too_many_paths_has_a_gate_without_a_table(
    done: Dataset, tmp_path: Path
) -> None:
    """The number of paths is that of the supernet that is named, not of model.arch."""
    two_gates = create_model("ds_resnet50", 10, gates=[0, 1, 2, 3])
    assert len(two_gates.space.routes) == 256
    directory = dsnet.save(two_gates, tmp_path / "model")
    given = registry.register(
        "wide-supernet",
        directory,
        stage="calibrate",
        run_id=None,
        tags={"fingerprint": "f", "parent": "", "dataset_digest": "d", "code_version": "c"},
        metrics={"top1": 0.9, "average_madds": 1.0},
    )
    config = configured(gate={"target": 0.5, "supernet": given.uri})
    assert [step.stage for step in plan(config, done, SPECS, given)] == ["gate", "evaluate"]
    others = configured(model={"gates": [3]}, gate={"supernet": given.uri})
    found = rf"gate\.supernet {given.uri}: .* stages \[3\], .* found them in \[0, 1, 2, 3\]"
    with pytest.raises(InputError, match=found):
        plan(others, done, SPECS, given)


def test_a_complete_table_is_found_and_of_part_of_one_the_rest_is_built(
    done: Dataset, tmp_path: Path
) -> None:
    config = configured(gate={"target": 0.3}, cluster={"storage": str(tmp_path)})

    def table() -> Step:
        (step,) = (step for step in plan(config, done, SPECS) if step.stage == "table")
        return step

    assert str(table()) == "table: not found; will build"
    folder = table_dir(config, table().name, table().key)
    make_tables(folder, parts=("train", "holdout", "test"))
    assert not table().runs and str(table()) == f"table: found in {folder}"
    next((folder / "train").glob("*.parquet")).unlink()
    assert table().runs
    assert str(table()) == f"table: 600 rows found in {folder}; will build the others"


def test_a_starting_point_is_an_input_of_the_supernet_alone(done: Dataset, tmp_path: Path) -> None:
    from pipeline.runner.job import Start

    one, other = (
        plan(configured(), done, SPECS, start=Start(tmp_path, identity)) for identity in "ab"
    )
    without = plan(configured(), done, SPECS)
    keys = {steps[0].key for steps in (one, other, without)}
    assert len(keys) == 3 and run_by(one) == ["supernet", "calibrate", "gate", "evaluate"]


# ---------------------------------------------------------------------------------------- forced


def test_the_stages_that_can_be_forced_are_the_chains() -> None:
    config = configured()
    assert [spec.name for spec in SPECS] == list(STAGES[:2])
    assert config.gate.method == "table" and STAGES[2:] == ("table", "gate", "evaluate")


@pytest.mark.parametrize(
    ("names", "stages"),
    [(["gate"], ("gate",)), (["evaluate,supernet"], ("supernet", "evaluate")), ([], ())],
)
def test_stages_are_named_one_by_one_or_with_commas(
    names: list[str], stages: tuple[str, ...]
) -> None:
    assert Force.of(names).stages == stages


def test_what_is_no_stage_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"--force: .*found gates; the nearest are gate or "):
        Force.of(["gates"])


def test_a_stage_that_this_run_does_without_is_refused(done: Dataset) -> None:
    config = configured(gate={"method": "straight_through"})
    with pytest.raises(InputError, match=r"a stage of this run \(supernet, calibrate, gate, "):
        plan(config, done, SPECS, force=Force.of(["table"]))


@pytest.mark.parametrize(
    ("stage", "runs"),
    [
        ("supernet", ["supernet", "calibrate", "gate", "evaluate"]),
        ("calibrate", ["calibrate", "gate", "evaluate"]),
        ("table", ["gate", "evaluate"]),
        ("gate", ["gate", "evaluate"]),
        ("evaluate", ["evaluate"]),
    ],
)
def test_a_forced_stage_is_run_with_all_that_follows_from_it(
    done: Dataset, stage: str, runs: list[str]
) -> None:
    steps = plan(configured(), done, SPECS, force=Force.of([stage]))
    assert run_by(steps) == runs
    assert [step.stage for step in steps if step.forced] == list(STAGES[STAGES.index(stage) :])
    lines = [str(step) for step in steps if step.forced and step.stage != "table"]
    if stage != "table":
        assert lines[0].startswith(f"{stage}: forced, although models:/planned")
    assert all(line.split(": ")[1].startswith("forced") for line in lines)


def test_a_forced_run_begins_from_nothing_and_if_interrupted_goes_on(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_from_dict(CONFIG | {"name": "forced"})
    make_all(config, dataset, tmp_path / "model")
    force = Force.of(["calibrate"])
    steps = plan(config, dataset, SPECS, force=force)
    by_stage = {step.stage: step for step in steps}
    calibrate, table = by_stage["calibrate"], by_stage["table"]
    checkpoints = stage_dir(config, "calibrate", calibrate.key)
    rows = table_dir(config, table.name, table.key)
    kept = stage_dir(config, "supernet", by_stage["supernet"].key)
    for folder in (checkpoints, rows, kept):
        folder.mkdir(parents=True)

    to_run, forced = begin_forced(config, steps)
    assert forced is not None and to_run == steps
    assert not checkpoints.exists() and not rows.exists() and kept.exists()
    aside = {path.name for path in storage_dir(config).rglob("*.before-1")}
    assert aside == {f"{checkpoints.name}.before-1", f"{rows.name}.before-1"}
    assert calibrate.found is not None
    assert not forced.accepts(calibrate.key, calibrate.found.version)

    # Its first stage is done, half of the next is there, and it is killed: the command again.
    newer = made(replace(calibrate), tmp_path / "model")
    assert forced.accepts(calibrate.key, newer.version)
    rows.mkdir(parents=True)
    again, forced = begin_forced(config, plan(config, dataset, SPECS, force=force))
    assert forced is not None and rows.exists()
    assert run_by(again) == ["gate", "evaluate"]
    assert str(again[1]) == f"calibrate: found as {newer.uri}"

    # It is done, and asked for once more: from nothing again.
    forced.done()
    once_more, _ = begin_forced(config, plan(config, dataset, SPECS, force=force))
    assert run_by(once_more) == ["calibrate", "gate", "evaluate"] and not rows.exists()


def test_what_another_run_is_at_is_not_set_aside(done: Dataset) -> None:
    config = configured()
    steps = plan(config, done, SPECS, force=Force.of(["gate"]))
    gate = next(step for step in steps if step.stage == "gate")
    folder = stage_dir(config, "gate", gate.key)
    folder.mkdir(parents=True)
    with (
        FileLock(lock_file(config, "planned-gate", gate.key), is_singleton=False),
        pytest.raises(InputError, match="another run is at stage gate of planned"),
    ):
        begin_forced(config, steps)
    assert folder.exists()
