"""A model directory is held to the configuration, and takes a place in its chain: without Ray."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import dsnet
from dsnet import DSNet, InputError, Metadata, create_model
from jobs import cli
from pipeline import chain
from pipeline.config import Config, config_from_dict
from pipeline.data.dataset import Dataset, ingest
from pipeline.runner.force import Force
from pipeline.runner.plan import Step, plan
from pipeline.runner.register_external import register
from pipeline.stages import supernet
from pipeline.store import registry
from pipeline.store.fingerprint import place_of
from pipeline.store.registry import Version
from pipeline.store.version import GIVEN, IN_PLACE_OF
from tests.embedded_store import embedded_store

SPECS = [stage.spec for stage in chain.SUPERNET]
EIGHT = Metadata(resolution=8)


def configured(**sections: dict[str, object] | str) -> Config:
    return config_from_dict({"name": "given", **sections})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    with embedded_store(tmp_path_factory.mktemp("given")):
        yield ingest(configured())


# ------------------------------------------------------------------------------------ refusals


def made(arch: str = "ds_mbnet_digits", outputs: int = 10, **metadata: object) -> DSNet:
    return create_model(arch, outputs, metadata=replace(EIGHT, **metadata))  # type: ignore[arg-type]


def damaged(folder: Path) -> None:
    weights = dsnet.save(made(), folder) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")


def of(**changes: object) -> Callable[[Path], object]:
    return lambda folder: dsnet.save(made(**changes), folder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: None, "expected a model directory, .* found no folder there"),
        (lambda folder: folder.mkdir(), "is not a model directory: it has no SHA256SUMS"),
        (damaged, "weights.safetensors does not match SHA256SUMS: the file is damaged"),
        (of(arch="ds_mbnet_cifar"), "model.arch ds_mbnet_digits, found 'ds_mbnet_cifar', whose"),
        (of(arch="ds_resnet_cifar"), "found 'ds_resnet_cifar', whose family is another"),
        (of(outputs=7), "expected a network of 10 classes, .* found one of 7"),
        (of(classes=("b", *"123456789")), "in their order, found 'b' in place of '0'"),
        (of(resolution=32), "of 8 x 8 pixels, .* found one for 32; set data.resolution to that"),
        (of(prices=((0.0, 2e5), (1.0, 1e5))), "expected a supernet, .* tuned for budgets"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    dataset: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], object],
    expected: str,
) -> None:
    make(tmp_path / "model")
    (tmp_path / "given.yaml").write_text("name: given\n")
    arguments = ["register", str(tmp_path / "model"), "--config", str(tmp_path / "given.yaml")]
    assert cli.run([*arguments, "--as-supernet"]) == 2
    out, err = capsys.readouterr()
    *_, line = err.splitlines()
    assert out == "" and line.startswith(f"dsnet: {tmp_path / 'model'}")
    assert len(re.findall("^dsnet: ", err, re.MULTILINE)) == 1 and re.search(expected, line)


def test_where_the_chain_would_not_look_for_it_nothing_is_registered(
    dataset: Dataset, tmp_path: Path
) -> None:
    directory = dsnet.save(made(), tmp_path / "model")
    for section, field in (("gate", "supernet"), ("supernet", "from")):
        config = configured(**{section: {field: "models:/other-supernet/1"}})
        with pytest.raises(InputError, match=rf"{section}\.{field}: expected none, .*other-supern"):
            register(config, directory, as_supernet=True)


# --------------------------------------------------------------------------------------- place


def registered(name: str, folder: Path, fingerprint: str, **tags: str) -> Version:
    """A version of a supernet, as a chain or `register` leaves it."""
    return registry.register(
        f"{name}-supernet",
        dsnet.save(made(), folder),
        stage="supernet",
        run_id=None,
        tags={
            "fingerprint": fingerprint,
            "parent": "",
            "dataset_digest": "d",
            "code_version": "c",
            **tags,
        },
        metrics={"top1": 0.9, "average_madds": 1.0},
    )


def steps(config: Config, dataset: Dataset, *force: str) -> dict[str, Step]:
    return {step.stage: step for step in plan(config, dataset, SPECS, force=Force.of(list(force)))}


def test_a_given_supernet_takes_the_place_of_the_trained_one_and_of_nothing_that_follows(
    dataset: Dataset, tmp_path: Path
) -> None:
    config = configured(name="placed")
    before = steps(config, dataset)
    trained = registered("placed", tmp_path / "model", before["supernet"].key)
    place = place_of(supernet.SPEC, config, dataset.digest)
    tags = {GIVEN: "digest", IN_PLACE_OF: place}
    version = registered("placed", tmp_path / "model", "of the given one", **tags)
    found = steps(config, dataset)
    assert found["supernet"].found == version and not found["supernet"].runs
    assert str(found["supernet"]) == f"supernet: found as {version.uri} (given)"
    # What was made of the trained one is not what is made of this one.
    for stage in ("calibrate", "gate", "evaluate"):
        assert found[stage].key != before[stage].key
    # More workers train nothing anew; another training is asked for by other fields.
    several = configured(name="placed", cluster={"workers": 7})
    assert steps(several, dataset)["supernet"].found == version
    longer = configured(name="placed", supernet={"epochs": 7})
    assert steps(longer, dataset)["supernet"].found is None
    # By force one is trained after all, which is newer then, and counts.
    forced = steps(config, dataset, "supernet")
    assert forced["supernet"].runs and forced["supernet"].key == before["supernet"].key
    assert forced["calibrate"].key == before["calibrate"].key
    newer = registered("placed", tmp_path / "model", before["supernet"].key)
    assert newer.version > version.version > trained.version
    again = steps(config, dataset)
    assert again["supernet"].found == newer
    assert again["calibrate"].key == before["calibrate"].key
