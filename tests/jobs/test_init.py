"""`dsnet init`: a configuration on stdout, and what will hurt beside it."""

import json
from pathlib import Path

import pytest
from PIL import Image

from jobs import cli
from pipeline.config import load_config


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes with four and twelve small pictures."""
    for name, count in (("ant", 4), ("bee", 12)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(count):
            path = tmp_path / "photos" / name / f"{number}.png"
            Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    return tmp_path / "photos"


def test_init_prints_a_configuration_and_says_what_will_hurt_beside_it(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["init", str(photos)]) == 0
    out, err = capsys.readouterr()
    (tmp_path / "mine.yaml").write_text(out)
    config = load_config(tmp_path / "mine.yaml")
    assert (config.name, config.data.source) == ("photos", str(photos))
    assert "warning: 2 of 2 classes have fewer than 10 pictures to train on" in err
    assert "dsnet run takes about" in out and "minutes on this machine" in out
    assert cli.run(["init", str(photos), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.keys() == {"config", "choices", "warnings", "notes"}
    assert document["config"]["data"]["source"] == str(photos)
    assert document["choices"][0].keys() == {"field", "value", "why"}


def test_init_refuses_what_is_no_source_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["init", str(tmp_path / "nowhere")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert "found no such file or folder" in err
