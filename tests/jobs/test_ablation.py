"""dsnet ablation: every part of the method left out once, and single widths beside them."""

from pathlib import Path

import pytest

from jobs.ablation import ALONE, BOOTSTRAPS, STRATEGIES, ablate, grouped
from jobs.commands.ablation import table
from pipeline.config import config_from_dict
from pipeline.config.plugins import import_plugins
from pipeline.data.dataset import ingest
from pipeline.runner.checks import task_of
from tests.embedded_store import embedded_store

CONFIG = {
    "name": "ablated",
    "data": {"source": "digits", "recipe": "digits"},
    "plugins": ["tests.toy_plugin"],
    "model": {"arch": "ds_toy", "routes": [0, 2]},
    "cluster": {"workers": 1},
    "supernet": {"epochs": 8, "batch_size": 64, "lr": 0.3, "warmup_epochs": 1, "ema": 0.9},
    "gate": {"method": "straight_through", "epochs": 1, "batch_size": 64, "target": 0.8},
}


@pytest.mark.slow
def test_each_row_has_what_was_trained_for_it(ray_cluster: str, tmp_path: Path) -> None:
    config = config_from_dict(CONFIG)
    import_plugins(config)
    with embedded_store(tmp_path):
        trials = ablate(config, ingest(config), 1)
    rows = dict(grouped(trials))
    assert list(rows) == [
        *(f"stage I: {way}" for way in (*BOOTSTRAPS, ALONE)),
        *(f"SGS: {strategy}" for strategy in STRATEGIES),
    ]
    widths = [f"width {index}" for index in range(3)]
    for name, (trial, *others) in rows.items():
        if name == f"stage I: {ALONE}":
            assert [t.reached.keys() for t in (trial, *others)] == [{"width 0"}, {"width 2"}]
            continue
        assert not others
        dynamic = ["dynamic"] if trial.sgs else []
        assert list(trial.reached) == [*widths, *dynamic]
        assert (trial.share is not None) == (trial.sgs is not None)
    for trial in trials:
        assert all(value > 0.2 for value in trial.reached.values())  # chance is 0.1
    lines = table(list(grouped([*trials, *trials])), task_of(config, None).headline)
    alone = next(line for line in lines if ALONE in line).split("|")
    assert [bool(cell.strip()) for cell in alone[2:-1]] == [True, False, True, False, False]
