"""The page of betons counts what is there and shows pictures as the loader gives them."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jobs import cli
from pipeline.config import Data, OwnRecipe
from pipeline.data.ingest.ingest import ingest
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.loading.views import views
from pipeline.data.manifest import Manifest
from pipeline.data.sources import open_source
from pipeline.data.sources.train_and_test import train_and_test
from pipeline.report.data_page import class_rows, render_data
from tests.browser import assert_page_works, needs_browser

RECIPE = OwnRecipe(base="light", random_erasing=1.0)
COUNTS = {"<ant>": 5, "bee": 2, "cat": 3}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Ten pictures of 20 x 24 pixels in three classes; one file more is none."""
    folder = tmp_path_factory.mktemp("zoo")
    random = np.random.default_rng(0)
    for name, count in COUNTS.items():
        (folder / "in" / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "in" / name / f"{number}.png")
    (folder / "in" / "cat" / "broken.png").write_bytes(b"none")
    return ingest(open_source(str(folder / "in"), "train"), folder / "zoo.beton", max_bad=0.1)


def test_every_class_is_counted_the_largest_first(zoo: Manifest) -> None:
    rows = class_rows(zoo)
    assert [(row.name, row.pictures) for row in rows] == [("<ant>", 5), ("cat", 3), ("bee", 2)]
    assert [row.share for row in rows] == [1, 3 / 5, 2 / 5]
    assert zoo.class_counts == tuple(COUNTS.values())


def test_pictures_are_what_a_training_sees(zoo: Manifest) -> None:
    recipe = OwnRecipe(base="cifar", color_jitter=0.4, random_erasing=1.0, mixup=0.2)
    found = views(zoo, recipe, 16, samples=6, views=3, seed=1)
    assert {each.label for each in found} == {0, 1, 2}
    cpu = torch.device("cpu")
    for train in (False, True):
        with Loader(
            zoo.beton,
            LoaderOptions(
                batch_size=4, recipe=recipe, train=train, resolution=16, seed=1, exact=True
            ),
        ) as loader:
            passes = [
                np.concatenate([batch.on(cpu).numpy() for batch in loader.epoch(0, view=view)])
                for view in range(3)
            ]
        for each in found:
            shown = each.trained if train else [each.evaluated] * 3
            for view in range(3):
                assert np.array_equal(shown[view], passes[view][each.sample])


@pytest.mark.parametrize("samples", [1, 2, 3, 5, 10, 40])
def test_no_class_comes_twice_before_another_has_come(zoo: Manifest, samples: int) -> None:
    found = views(zoo, "light", 8, samples=samples, views=1, seed=0)
    numbers = [each.sample for each in found]
    assert len(numbers) == min(samples, zoo.samples) == len(set(numbers))
    counts = np.bincount([each.label for each in found], minlength=3)
    for count, there in zip(counts, zoo.class_counts, strict=True):
        assert count == there or count >= counts.max() - 1


def test_the_page_loads_nothing_and_escapes_names(zoo: Manifest) -> None:
    page = render_data([zoo], recipe="light", resolution=20)
    assert "default-src 'none'" in page
    assert "<ant>" not in page and "&lt;ant&gt;" in page
    assert "1 picture could not be used" in page and "broken.png" in page
    uris = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(uris) == 8 * 7
    assert not re.search(r'(src|href)="(?!data:)', page)
    picture = Image.open(io.BytesIO(base64.b64decode(uris[0])))
    expected = views(zoo, "light", 20, samples=8, views=6, seed=0)[0].evaluated
    assert np.array_equal(np.asarray(picture), expected)


@needs_browser
def test_the_page_works_in_a_browser_of_any_width(zoo: Manifest, tmp_path: Path) -> None:
    page = tmp_path / "data.html"
    page.write_text(render_data([zoo], recipe="light", resolution=20))
    assert_page_works(page)


def test_the_command_says_what_it_finds_and_writes_the_page(
    zoo: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    arguments = [str(zoo.beton.parent), "--out", str(out), "--resolution", "20"]
    arguments += ["--recipe", str(RECIPE)]
    assert cli.run(["inspect", *arguments, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["pictures"] == 10 and found["classes"] == {"<ant>": 5, "cat": 3, "bee": 2}
    assert found["left_out"] == 1 and found["page"] == str(out)
    assert out.read_text() == render_data([zoo], recipe=RECIPE, resolution=20)
    assert "Recipe {base: light, random_erasing: 1.0}" in out.read_text()
    assert cli.run(["inspect", *arguments, "--recipe", "lihgt"]) == 2
    assert "expected one of digits, light" in capsys.readouterr().err


def test_a_page_shows_training_first_and_every_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(24):
        split = "train" if number < 12 else "test"
        (folder := tmp_path / "in" / split / f"kind{number % 12:02}").mkdir(parents=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    # The pictures themselves, before anything is ingested.
    assert cli.run(["inspect", str(tmp_path / "in"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["split"], row["pictures"]) for row in found] == [("train", 12), ("test", 12)]
    assert found[0]["classes"] == {f"kind{number:02}": 1 for number in range(12)}
    assert cli.run(["inspect", str(tmp_path / "in"), "--out", str(tmp_path / "none.html")]) == 2
    assert "--out: expected .beton files, " in capsys.readouterr().err
    for part in train_and_test(Data(source=str(tmp_path / "in"))):
        ingest(part, tmp_path / f"{part.split}.beton")
    out = tmp_path / "page.html"
    words = ["inspect", str(tmp_path), "--resolution", "8", "--out", str(out)]
    assert cli.run([*words, "--json"]) == 0
    assert [row["split"] for row in json.loads(capsys.readouterr().out)] == ["train", "test"]
    shown = re.findall(r'alt="(kind\d+), evaluated"', out.read_text())
    assert shown == 2 * [f"kind{number:02}" for number in range(12)]
