"""A stage runs again when something that its result depends on has changed, and only then."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import Config, fields, load_config
from pipeline.stages import calibrate, evaluate, gate, supernet, table, table_gate
from pipeline.store.code_version import code_version
from pipeline.store.fingerprint import Spec, fingerprint
from pipeline.sweep import request

ROOT = Path(__file__).parents[3]
SUPERNET = {"stage": supernet.SPEC, "inputs": [], "dataset_digest": "d"}
GATE = {"stage": table_gate.SPEC, "inputs": ["parent"], "dataset_digest": "d"}
ALL = [s.SPEC for s in (supernet, calibrate, table, gate, table_gate, evaluate, request)]


def of(arguments: dict[str, object], **overrides: str) -> str:
    values = {"data__recipe": "digits", "model__arch": "ds_mbnet_digits", **overrides}
    config = load_config(None, {k.replace("__", "."): v for k, v in values.items()})
    return fingerprint(config=config, **arguments)  # type: ignore[arg-type]


def test_equal_stages_have_equal_fingerprints() -> None:
    assert of(SUPERNET) == of(SUPERNET, supernet__lr="0.08", data__resolution="8")
    assert re.fullmatch("[0-9a-f]{64}", of(SUPERNET))


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("seed", "1"),
        ("supernet__epochs", "7"),
        ("supernet__ema", "0.5"),
        ("supernet__bootstrap", "plain"),
        ("supernet__accumulate", "2"),
        ("supernet__patience", "3"),
        ("supernet__compile", "true"),
        ("model__arch", "ds_mbnet"),
        ("model__gates", "3"),
        ("model__dropout", "0"),
        ("data__recipe", "cifar"),
        ("data__recipe", "{base: digits, mixup: 0.2}"),
        ("data__sampling", "balanced"),
        ("supernet__resolution_from", "8"),
        ("data__holdout", "0.2"),
        ("cluster__workers", "1"),
    ],
)
def test_what_shapes_the_supernet_changes_its_fingerprint(flag: str, text: str) -> None:
    assert of(SUPERNET, **{flag: text}) != of(SUPERNET)


def test_a_starting_point_counts_by_what_it_is_and_not_by_its_name() -> None:
    slowed = {"supernet__from": "models:/a/1", "supernet__trunk_lr": "0.1"}
    frozen = {"supernet__from": "models:/a/1", "supernet__freeze": "stem"}
    assert len({of(SUPERNET), of(SUPERNET, **slowed), of(SUPERNET, **frozen)}) == 3
    # What it starts from is among the inputs; the learning rate has another default with it.
    same = {"supernet__lr": "0.08", "supernet__warmup_epochs": "5"}
    assert of(SUPERNET, supernet__from="models:/a/1", **same) == of(SUPERNET)
    assert of(SUPERNET, supernet__from="models:/a/1") != of(SUPERNET)


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("name", "other"),
        ("plugins", "my_package.tasks"),
        ("data__dir", "/elsewhere"),
        ("data__source", "moved"),
        ("cluster__workers", "[1, 2]"),
        ("cluster__threads", "4"),
        ("cluster__max_failures", "9"),
        ("cluster__storage", "/elsewhere"),
        ("supernet__checkpoint_every", "5"),
        ("supernet__checkpoint_steps", "5"),
        ("supernet__checkpoint_minutes", "1"),
        ("supernet__accumulate", "1"),
        ("gate__epochs", "7"),
        ("evaluate__batch_size", "7"),
    ],
)
def test_what_does_not_shape_the_supernet_does_not(flag: str, text: str) -> None:
    assert of(SUPERNET, **{flag: text}) == of(SUPERNET)


def test_a_gate_depends_on_its_own_section_and_on_the_supernet_by_what_it_is() -> None:
    assert of(GATE, gate__target="0.4") != of(GATE)
    assert of(GATE, supernet__epochs="7") == of(GATE)  # comes in by its parent's fingerprint
    assert of({**GATE, "inputs": ["other"]}) != of(GATE)
    assert of(GATE, gate__supernet="models:/a/1") == of(GATE)


def test_the_data_and_the_stage_count() -> None:
    assert of({**SUPERNET, "dataset_digest": "e"}) != of(SUPERNET)
    assert of({**SUPERNET, "stage": calibrate.SPEC}) != of({**SUPERNET, "stage": evaluate.SPEC})


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_a_stage_of_another_revision_or_name_has_another_fingerprint(spec: Spec) -> None:
    given = {"inputs": [], "dataset_digest": "d"}
    first = of({"stage": spec, **given})
    assert of({"stage": replace(spec, revision=spec.revision + 1), **given}) != first
    assert of({"stage": replace(spec, name="other"), **given}) != first


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_what_a_stage_declares_is_in_the_configuration(spec: Spec) -> None:
    names = [field.name for field in fields()]
    for name in (*spec.fields, *spec.unread):
        assert any(known == name or known.startswith(f"{name}.") for known in names), name
    for name in spec.unread:
        assert name.partition(".")[0] in spec.fields, f"{name} is of no section that is read"


def test_no_fingerprint_depends_on_the_text_of_the_code(tmp_path: Path) -> None:
    """A copy of the project agrees, although it has comments, a family and a backend more."""
    for floor in ("dsnet", "pipeline"):
        shutil.copytree(ROOT / floor, tmp_path / floor)
    for path in tmp_path.rglob("*.py"):
        path.write_text(path.read_text() + "\n# A comment.\n")
    (tmp_path / "dsnet/models/other.py").write_text('"""A family."""\n')
    (tmp_path / "dsnet/inference/other.py").write_text('"""A backend."""\n')
    program = (
        "from pipeline.config import Config\n"
        "from pipeline.store.fingerprint import fingerprint\n"
        "from pipeline.stages import calibrate, evaluate, gate, supernet, table, table_gate\n"
        "print(fingerprint.__code__.co_filename)\n"
        "for stage in (supernet, calibrate, table, gate, table_gate, evaluate):\n"
        "    print(fingerprint(stage.SPEC, Config(), inputs=['i'], dataset_digest='d'))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, check=True)
    whose, *printed = done.stdout.decode().splitlines()
    assert Path(whose).is_relative_to(tmp_path)
    assert printed == [
        fingerprint(stage.SPEC, Config(), inputs=["i"], dataset_digest="d")
        for stage in (supernet, calibrate, table, gate, table_gate, evaluate)
    ]


def test_the_code_version_names_a_commit_or_a_release() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty\.[0-9a-f]{8})?|\d[\w.]*\+[0-9a-f]{8}", code_version())
