"""docs/paper.md names nothing that is not there."""

import importlib
import re
from pathlib import Path

import pytest
import torch

import dsnet

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "paper.md").read_text()
NAMES = sorted(set(re.findall(r"`((?:dsnet|pipeline|jobs)(?:\.\w+)+)`", TEXT)))
CALLS = sorted(set(re.findall(r"`(create_model\([^`]*\)|GateLoss\([^`]*\))`", TEXT)))


def test_the_paper_is_mapped_to_a_good_many_functions() -> None:
    assert len(NAMES) > 40
    assert len(CALLS) > 5


@pytest.mark.parametrize("name", NAMES)
def test_every_function_it_names_exists(name: str) -> None:
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[split:]:
            found = getattr(found, attribute)
        return
    pytest.fail(f"{name} is nowhere")


@pytest.mark.parametrize("call", CALLS)
def test_every_call_it_shows_works(call: str) -> None:
    with torch.device("meta"):
        eval(call, {"create_model": dsnet.create_model, "GateLoss": dsnet.training.GateLoss})


@pytest.mark.parametrize(
    ("name", "options", "cheapest", "dearest"),
    [
        ("ds_mbnet", {"routes": [0, 1, 2, 3]}, "133M", "200M"),
        ("ds_mbnet", {"routes": [4, 5, 6, 7, 8, 9]}, "226M", "393M"),
        ("ds_mbnet_wide", {"routes": [10, 11, 12, 13, 14, 15, 16]}, "433M", "719M"),
    ],
)
def test_the_routing_spaces_cost_what_it_says(
    name: str, options: dict[str, list[int]], cheapest: str, dearest: str
) -> None:
    with torch.device("meta"):
        model = dsnet.create_model(name, **options)  # type: ignore[arg-type]
    ends = [f"{model.madds(model.space.routes[end], 224) / 1e6:.0f}M" for end in (0, -1)]
    assert ends == [cheapest, dearest]
    call = f"`create_model({name!r}, routes={options['routes']})`".replace("'", '"')
    assert f"| {call} | {cheapest} to {dearest} |" in TEXT
