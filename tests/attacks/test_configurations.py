"""Configurations made to take all memory or time, or to end in a trace: refused in one line."""

import json
import os
from pathlib import Path

import pytest

from dsnet.io.description import read_description
from pipeline.config import dialect, load_config
from tests.attacks import bounded

TIMES_TEN = ("x", *(f"*{letter}" for letter in "abcdefghi"))


def bomb(indent: str = "") -> str:
    """Ten anchors, each of ten of the one before: 10^10 values in 379 bytes."""
    return "".join(
        f"{indent}{letter}: &{letter} [{','.join([each] * 10)}]\n"
        for letter, each in zip("abcdefghij", TIMES_TEN, strict=True)
    )


def merges() -> str:
    """The same with `<<`, which is multiplied before any value is made."""
    lines = ["a: &a {x: 1}"]
    lines += [
        f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 10)}]}}"
        for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    ]
    return "\n".join(lines)


def deep_by_aliases() -> str:
    lines = ["  a0: &a0 [1]", *(f"  a{n}: &a{n} [[[*a{n - 1}]]]" for n in range(1, 1000))]
    return "task:\n" + "\n".join(lines)


REFUSED = {
    "bomb": (bomb() + "name: *j\n", "more than 10,000 values"),
    "bomb in task": ("task:\n" + bomb("  "), "more than 10,000 values"),
    "bomb of merges": (merges(), "more than 10,000 values"),
    "holds itself": ("name: r\ntask: &t {noise: *t}\n", "a value that holds itself"),
    "holds itself, in a list": ("plugins: &t [a, *t]\n", "a value that holds itself"),
    "deep": ("task: " + "[" * 20_000 + "]" * 20_000, "deeper than 16 levels"),
    "deep maps": ("task: " + "{a: " * 3_000 + "1" + "}" * 3_000, "deeper than 16 levels"),
    "deep by indentation": (
        "task:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 500)),
        "deeper than 16 levels",
    ),
    "deep by aliases": (deep_by_aliases(), "deeper than 16 levels"),
    "5,000 digits": ("seed: " + "9" * 5000, "a number of 5,000 characters"),
    "hexadecimal": ("task: {noise: [0x" + "f" * 9000 + "]}", "a number of 9,002 characters"),
    "digits of a target": ("gate: {target: '" + "9" * 5000 + "'}", "gate.target: expected"),
    "digits and a unit": ("gate: {target: " + "9" * 400 + "G}", "gate.target: expected"),
    "8 MB": ("plugins: [" + "abcde," * 1_400_000 + "]", "up to 262,144 bytes"),
    "many wrong entries": ("plugins: [" + "1," * 9_000 + "]", "plugins: expected"),
    "many unknown fields": ("".join(f"f{n}: 1\n" for n in range(4_000)), "unknown field f0"),
    "a name of 200 KB": ("x" * 200_000 + ": 1", "line 1"),
    "a name of 1 KB": ("x" * 1_000 + ": 1", "unknown field xxx"),
    "a value of 200 KB": ("name: " + "x" * 200_000, "name: expected"),
    "the same key twice": ("x: [" + "x," * 9_000 + "]\nx: 1\n", "duplicate key"),
    "no number": ("seed: !!int x\n", "not of its tag"),
    "no switch": ("seed: !!bool x\n", "not of its tag"),
    "bytes": ("task: {noise: !!binary /w==}\n", "could not determine a constructor"),
    "code": ("seed: !!python/object/apply:os.system [true]\n", "could not determine"),
    "two documents": ("seed: 1\n---\nseed: 2\n", "another document"),
    "a section of numbers": ("gate: {1: 2, null: 3}\n", "gate"),
}


@pytest.mark.parametrize("attack", REFUSED)
def test_a_configuration_is_refused_in_one_line(attack: str, tmp_path: Path) -> None:
    text, expected = REFUSED[attack]
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert expected in bounded.call(load_config, path).refusal


def test_the_command_line_refuses_the_same(tmp_path: Path) -> None:
    """Printing a configuration is what wrote out all that its aliases meant."""
    path = tmp_path / "config.yaml"
    path.write_text(REFUSED["bomb in task"][0])
    ended = bounded.command("run", "--config", path, "--print-config")
    assert str(path) in ended.refusal and not ended.stdout


def test_flags_are_read_within_the_same_bounds() -> None:
    settings = "{a: &a [x,x,x,x], b: &b [*a,*a,*a,*a], c: *c}"
    ended = bounded.call(load_config, None, {"task": settings, "seed": "9" * 5000})
    assert "--seed" in ended.refusal and "--task" in ended.refusal


def _described(directory: Path) -> None:
    read_description(directory)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "model.json"
    os.mkfifo(fifo)
    assert "found a pipe" in bounded.call(load_config, fifo).refusal
    assert "found a pipe" in bounded.call(load_config, Path("/dev/zero")).refusal
    assert "found a folder" in bounded.call(load_config, tmp_path).refusal
    assert "found a pipe" in bounded.call(_described, tmp_path).refusal


@pytest.mark.parametrize(
    "text",
    ['{"format": ' + "9" * 5000 + "}", "[" * 100_000, '{"format": 1e999}'],
    ids=["5,000 digits", "deep", "infinite"],
)
def test_a_description_keeps_the_same_bounds(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    assert "model.json" in bounded.call(_described, tmp_path).refusal


def test_what_aliases_are_for_is_read() -> None:
    text = "base: &base {epochs: 3, lr: 0.1}\nsupernet: {<<: *base, lr: 0.2}\ngate: *base\n"
    values = dialect.parse(text)
    assert values["supernet"] == {"epochs": 3, "lr": 0.2}
    assert json.dumps(values["gate"]) == json.dumps(values["base"])
