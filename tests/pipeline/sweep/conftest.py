"""Small tables and a small sweep over two targets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dsnet.routing.target import parse_target
from pipeline.config import Config, config_from_dict
from pipeline.runner.tables import Tables
from tests.pipeline.sweep.made import make_tables

NAMES = ("0.5", "0.7", "every")
TARGETS = [parse_target(name) for name in NAMES[:2]]


def searched(name: str = "made", steps: int = 300, **sweep: object) -> Config:
    return config_from_dict({"name": name, "table": {"steps": steps}, "sweep": sweep})


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """$DSNET_HOME of one test's sweeps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSNET_HOME", str(tmp_path))
        yield tmp_path
