"""One small chain on a real Ray cluster and an embedded MLflow store, run once for all tests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from pipeline import chain
from pipeline.chain import ChainResult
from pipeline.config import Config, config_from_dict
from pipeline.store import registry, tracking
from pipeline.store.registry import Version
from pipeline.training.worker_group import WorkerGroup
from tests.conftest import ONE_AT_A_TIME
from tests.embedded_store import embedded_store

SMALL = {
    "name": "small",
    "data": {"source": "digits", "recipe": "digits"},
    "model": {"arch": "ds_mbnet_digits", "dropout": 0.0},
    "cluster": {"workers": 2, "max_failures": 1},
    "supernet": {
        "epochs": 6,  # of fewer not every width has learned, and that takes no alias
        "batch_size": 32,
        "lr": 0.3,
        "warmup_epochs": 1,
        "ema": 0.9,
        "checkpoint_every": 1,
    },
    "gate": {"method": "straight_through", "epochs": 1, "batch_size": 64, "target": 0.5},
    "sweep": ONE_AT_A_TIME,
}


@pytest.fixture
def asked_for(request: pytest.FixtureRequest) -> None:
    """Several clusters and starts of workers take minutes of a small machine."""
    if not request.config.getoption("long"):
        pytest.skip("takes minutes: --long runs it")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """$DSNET_HOME for the session's chains, with the embedded store."""
    folder = tmp_path_factory.mktemp("home")
    with embedded_store(folder):
        yield folder


def configured(**sections: dict[str, object] | str) -> Config:
    """The small config with fields of some sections replaced."""
    values: dict[str, object] = {**SMALL}
    for name, value in sections.items():
        before = SMALL.get(name)
        values[name] = {**before, **value} if isinstance(before, dict) else value  # type: ignore[dict-item]
    return config_from_dict(values)


@contextmanager
def overtaken(version: Version, folder: Path) -> Iterator[list[Version]]:
    """While a newer version has its aliases, as another sweep would leave it; all of the name."""
    newer = registry.register(
        version.name,
        registry.pull(version.uri, folder / "overtaken"),
        stage="gate",
        run_id=None,
        tags={tag: version.tags[tag] for tag in registry.REQUIRED_TAGS} | {"fingerprint": "newer"},
        metrics=version.metrics,
        aliases=version.aliases,
    )
    yield registry.versions(version.name)
    for alias in version.aliases:
        registry.set_alias(version.name, alias, version.version)
    tracking.client().delete_model_version(version.name, str(newer.version))


@pytest.fixture(scope="session")
def workers(home: Path, ray_cluster: str) -> Iterator[WorkerGroup]:
    """Workers that stay from test to test, as they do from stage to stage."""
    with WorkerGroup() as group:
        yield group


@pytest.fixture(scope="session")
def result(workers: WorkerGroup) -> ChainResult:
    """What the small chain made on two workers."""
    return chain.run(configured(), workers=workers)


@pytest.fixture(scope="session")
def undisturbed(home: Path, workers: WorkerGroup) -> Callable[[str], Version]:
    """By optimizer, what becomes of a short stage I to which nothing happens."""
    from tests.pipeline.chain import faults  # which takes its configurations from here

    @cache
    def trained(optimizer: str) -> Version:
        return faults.supernet_of(faults.short(f"undisturbed-{optimizer}", optimizer), workers)

    return trained
