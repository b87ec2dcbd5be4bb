"""A stage runs again when something that its result depends on has changed, and only then."""

import re
from pathlib import Path

import pytest

from pipeline.config import Config, load_config
from pipeline.fingerprint import code_version, digest_of, fingerprint

SUPERNET = {"stage": "supernet", "inputs": [], "dataset_digest": "d"}
GATE = {"stage": "gate", "inputs": ["parent"], "dataset_digest": "d"}


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
        ("model__arch", "ds_mbnet"),
        ("model__dropout", "0"),
        ("data__recipe", "cifar"),
        ("data__holdout", "0.2"),
        ("cluster__workers", "1"),
    ],
)
def test_what_shapes_the_supernet_changes_its_fingerprint(flag: str, text: str) -> None:
    assert of(SUPERNET, **{flag: text}) != of(SUPERNET)


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("name", "other"),
        ("data__dir", "/elsewhere"),
        ("data__source", "moved"),
        ("cluster__threads", "4"),
        ("cluster__max_failures", "9"),
        ("cluster__storage", "/elsewhere"),
        ("supernet__checkpoint_every", "5"),
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
    assert of({**SUPERNET, "stage": "calibrate"}) != of({**SUPERNET, "stage": "evaluate"})


def test_an_unknown_stage_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected one of supernet, calibrate, table"):
        fingerprint("gates", Config(), inputs=[], dataset_digest="d")


def test_code_counts_by_name_and_content_but_for_what_only_shows_results(tmp_path: Path) -> None:
    for name in ("dsnet/a.py", "pipeline/b.py", "pipeline/report/c.py", "jobs/d.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    without = ["pipeline/report"]
    first = digest_of(tmp_path, without)
    (tmp_path / "pipeline/report/c.py").write_text("2")
    (tmp_path / "jobs/d.py").write_text("2")
    (tmp_path / "dsnet/notes.txt").write_text("2")
    assert digest_of(tmp_path, without) == first
    (tmp_path / "dsnet/a.py").write_text("2")
    second = digest_of(tmp_path, without)
    (tmp_path / "dsnet/a.py").rename(tmp_path / "dsnet/e.py")
    third = digest_of(tmp_path, without)
    assert len({first, second, third}) == 3


def test_the_code_version_names_a_commit_or_a_release() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty\.[0-9a-f]{8})?|\d[\w.]*\+[0-9a-f]{8}", code_version())
