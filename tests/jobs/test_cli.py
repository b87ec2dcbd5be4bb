"""The `dsnet` command: results on stdout, wrong input refused in one line, help that teaches."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import dsnet
from dsnet.models.registry import ARCHITECTURES
from jobs import cli
from jobs.config_flags import FIELDS
from tests.jobs.registry import digits_registry

# The numbers of the paper's architecture at 224 pixels and 1000 classes.
DS_MBNET = [
    132890144, 152917184, 175151968, 199594496, 226244768, 255102784, 286168544,
    319442048, 354923296, 392612288, 432509024, 474613504, 518925728, 565445696,
]  # fmt: skip
DS_MBNET_LARGEST = 819883136


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def refusal(self) -> str:
        """The one line of a refusal."""
        assert self.status == 2, self
        assert self.stdout == ""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("dsnet: ")
        return lines[0]


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `dsnet ARGS` in this process."""

    def run(*args: object) -> Outcome:
        capsys.readouterr()
        status = cli.run([str(arg) for arg in args])
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DSNET_HOME whose registry holds digits version 1, the champion, and digits-supernet."""
    folder = tmp_path_factory.mktemp("home")
    digits_registry(folder)
    return folder


@pytest.fixture
def registered(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands find that registry."""
    monkeypatch.setenv("DSNET_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return home


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A PNG file."""
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return path


# ------------------------------------------------------------------------------------- results


def test_madds_prints_the_published_numbers(command: Command) -> None:
    outcome = command("madds", "ds_mbnet", "--json")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert json.loads(outcome.stdout) == {
        "arch": "ds_mbnet",
        "resolution": 224,
        "largest": DS_MBNET_LARGEST,
        "subnetworks": DS_MBNET,
    }
    table = command("madds", "ds_mbnet").stdout
    assert all(f"{count:,}" in table for count in [*DS_MBNET, DS_MBNET_LARGEST])


def test_madds_of_no_architecture_lists_what_there_is(command: Command) -> None:
    rows = {row["arch"]: row for row in json.loads(command("madds", "--json").stdout)}
    assert rows.keys() == ARCHITECTURES.keys()
    for name in ("ds_mbnet", "ds_resnet50"):  # with a gate, and with none
        counts = json.loads(command("madds", name, "--json").stdout)["subnetworks"]
        assert (rows[name]["slimmest"], rows[name]["widest"]) == (counts[0], counts[-1])
        assert rows[name]["subnetworks"] == len(counts)
    table = command("madds", "--resolution", "64").stdout
    assert all(name in table for name in rows)


def test_madds_shares_are_of_the_whole_that_targets_are_of(command: Command) -> None:
    table = command("madds", "ds_mbnet").stdout
    shares = [float(share) for share in re.findall(r"([\d.]+)%", table)]
    widest = DS_MBNET[-1]
    whole = [100 * count / widest for count in (*DS_MBNET, DS_MBNET_LARGEST)]
    assert shares == pytest.approx(whole, abs=0.05)
    assert "of the widest routable" in table
    assert "largest, which no gate picks" in table
    assert "no gate" not in command("madds", "ds_resnet50").stdout  # there it is the last of them


def test_predict_on_a_supernet_runs_the_widest_and_says_so(
    command: Command, registered: Path, picture: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = command("predict", "models:/digits-supernet", picture, "--json")
    (prediction,) = json.loads(outcome.stdout)
    assert prediction["width"] == 3
    (line,) = [record.getMessage() for record in caplog.records if "gates" in record.message]
    assert line.startswith("models:/digits-supernet has gates that are not trained")
    assert "width 3, the widest" in line and "\n" not in line
    caplog.clear()
    command("predict", "models:/digits", picture)
    assert "not trained" not in caplog.text
    refusal = command("predict", "models:/digits-supernet", picture, "--budget", "0.5").refusal
    assert "gates of this model are not trained" in refusal


def test_models_lists_what_is_registered(command: Command, registered: Path) -> None:
    listed = json.loads(command("models", "--json").stdout)
    assert [(each["name"], each["version"]) for each in listed] == [
        ("digits", 1),
        ("digits-supernet", 1),
    ]
    digits = listed[0]
    assert digits.keys() == {"name", "version", "aliases", "stage", "tags", "metrics"}
    assert digits["aliases"] == ["champion", "target-50pct"]
    assert digits["stage"] == "gate"
    assert digits["metrics"] == {"top1": 0.975, "average_madds": 150000.0}
    assert digits["tags"]["dataset_digest"] == "d"
    only = json.loads(command("models", "digits-supernet", "--json").stdout)
    assert [each["name"] for each in only] == ["digits-supernet"]
    best = json.loads(command("models", "--min", "top1=0.9", "--sort", "-top1", "--json").stdout)
    assert [each["name"] for each in best] == [each["name"] for each in listed]
    assert command("models", "--max", "top1=0.9").stdout == "none of 2 versions matches\n"
    table = command("models").stdout
    assert "models:/digits/1" in table
    assert "97.50%" in table


def test_pull_gives_a_model_directory(command: Command, registered: Path, tmp_path: Path) -> None:
    outcome = command("pull", "models:/digits@champion", tmp_path / "pulled")
    assert (outcome.status, outcome.stdout.strip()) == (0, str(tmp_path / "pulled"))
    files = {path.name for path in (tmp_path / "pulled").iterdir()}
    assert files == {"weights.safetensors", "model.json", "SHA256SUMS"}
    for name in files:
        pulled, original = tmp_path / "pulled" / name, registered / "model" / name
        assert pulled.read_bytes() == original.read_bytes()


def test_predict_says_the_same_of_a_registered_model_and_of_its_directory(
    command: Command, registered: Path, picture: Path
) -> None:
    by_uri = json.loads(command("predict", "models:/digits", picture, "--json").stdout)
    by_folder = json.loads(command("predict", registered / "model", picture, "--json").stdout)
    assert by_uri == by_folder
    (prediction,) = by_uri
    assert prediction.keys() == {"path", "label", "class", "confidence", "width", "madds"}
    assert prediction["path"] == str(picture)
    assert prediction["class"] == str(prediction["label"])
    model = dsnet.load(registered / "model")
    assert prediction["madds"] == model.madds(width=prediction["width"])


def test_what_a_command_has_written_is_told_as_json(
    command: Command, registered: Path, tmp_path: Path
) -> None:
    for name, to in (("pull", tmp_path / "pulled"), ("export", tmp_path / "model.onnx")):
        outcome = command(name, "models:/digits", to, "--json")
        assert json.loads(outcome.stdout) == {"path": str(to)}


def test_ingest_names_what_it_wrote(command: Command, tmp_path: Path) -> None:
    outcome = command("ingest", "digits", tmp_path, "--split", "test")
    assert outcome.status == 0
    assert (tmp_path / "test.beton").is_file()
    assert "360" in outcome.stdout
    assert outcome.stderr.splitlines()[-1].startswith("ingest test: 360/360 images (100%)")


def test_stdout_is_one_json_document_whatever_libraries_print() -> None:
    script = """
import atexit, os, subprocess
from jobs import cli
from jobs import doctor

def examine():
    print("printed")
    os.write(1, b"written to the descriptor\\n")
    subprocess.run(["echo", "from a child"], check=True)
    yield doctor.Part("ok", name="part")

doctor.examine = examine
atexit.register(print, "said at the end")
cli.main(["doctor", "--json"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (part,) = json.loads(done.stdout)["parts"]
    assert part["name"] == "part"
    for noise in ("printed", "written to the descriptor", "from a child", "said at the end"):
        assert noise in done.stderr


@pytest.mark.parametrize("how", [["run"], ["submit", "run", "--address", "http://127.0.0.1:9"]])
def test_a_stage_to_force_that_is_none_is_refused_with_the_nearest(
    command: Command, how: list[str]
) -> None:
    config = Path(cli.__file__).parent / "configs" / "digits.yaml"
    line = command(*how, "--config", config, "--force", "gate,supernets").refusal
    assert "--force: expected a stage (supernet, calibrate, table, gate, evaluate)" in line
    assert "found supernets; the nearest are supernet or " in line


# ------------------------------------------------------------------------------ exit statuses


def run_doctor_raising(error: str) -> subprocess.CompletedProcess[str]:
    script = f"""
from jobs import cli
from jobs import doctor

def examine():
    raise {error}

doctor.examine = examine
cli.main(["doctor"])
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_a_bug_is_status_1_with_a_traceback() -> None:
    done = run_doctor_raising("ValueError('a bug')")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


def test_a_training_that_diverged_is_status_1_and_one_line() -> None:
    done = run_doctor_raising("__import__('dsnet.errors').errors.DivergenceError('no loss left')")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "dsnet: no loss left\n")


def test_an_interrupt_is_status_130_without_a_traceback() -> None:
    done = run_doctor_raising("KeyboardInterrupt")
    assert done.returncode == 130
    assert done.stderr.strip() == "dsnet: interrupted"


@pytest.mark.parametrize(
    ("args", "found", "nearest"),
    [
        (["modles"], "modles", "models"),
        (["submit", "runn"], "runn", "run"),
        (["madds", "ds_mbnet", "--jsn"], "--jsn", "--json"),
        (["run", "--config", "x", "--gate.epoch", "3"], "--gate.epoch", "--gate.epochs"),
        (["submit", "run", "--adress", "x"], "--adress", "--address"),
        (["madds", "ds_mbnt"], "ds_mbnt", "ds_mbnet"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(
    command: Command, args: list[str], found: str, nearest: str
) -> None:
    words = re.findall(r"[\w.-]+", command(*args).refusal)
    assert {found, nearest} <= set(words)


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["submit"],
        ["run"],
        ["madds", "ds_mbnet", "--resolution", "large"],
        ["madds", "ds_mbnet", "--resolution", "0"],
        ["predict", "models:/digits"],
        ["pull", "models:/digits"],
        ["ingest", "digits", "x", "--quality", "101"],
        ["submit", "run", "--config", "x"],
    ],
)
def test_an_incomplete_or_wrong_command_line_names_its_help(
    command: Command, args: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert command(*args).refusal.endswith("--help")


# -------------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize("how", [["run"], ["submit", "run", "--address", "http://127.0.0.1:9"]])
def test_a_wrong_configuration_is_refused_before_anything_starts(
    command: Command, tmp_path: Path, how: list[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("gate: {epochs: three}")
    line = command(*how, "--config", config).refusal
    assert line.startswith(f"dsnet: {config}: gate.epochs: ") and "three" in line
    assert list(tmp_path.iterdir()) == [config]


def test_a_wrong_flag_value_names_the_flag(command: Command, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("name: x")
    line = command("run", "--config", config, "--supernet.lr", "fast").refusal
    assert "--supernet.lr" in line
    assert "'fast'" in line
    assert "nothing there" in command("run", "--config", tmp_path / "missing.yaml").refusal


def test_a_source_without_pictures_is_refused_and_nothing_is_written(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text" / "cat").mkdir(parents=True)
    (tmp_path / "text" / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "gap" / "cat").mkdir(parents=True)
    (tmp_path / "gap" / "dog").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "gap" / "cat" / "1.png")
    for name, said in (
        ("missing", "missing"),
        ("empty", "empty"),
        ("text", "no picture"),
        ("gap", "dog"),
    ):
        line = command("ingest", tmp_path / name, tmp_path / "out").refusal
        assert str(tmp_path / name) in line
        assert said in line
    assert not (tmp_path / "out").exists()


def test_a_picture_that_does_not_decode_leaves_no_beton(command: Command, tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "photos" / "cat" / "1.png")
    (tmp_path / "photos" / "cat" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    outcome = command("ingest", tmp_path / "photos", tmp_path / "out", "--max-bad", "0")
    assert outcome.status == 2
    assert "2.png" in outcome.stderr.splitlines()[-1]
    assert list((tmp_path / "out").iterdir()) == []


def test_predict_passes_over_what_is_no_image_with_status_3(
    command: Command, registered: Path, picture: Path
) -> None:
    (picture.parent / "notes.txt").write_text("not a picture")
    missing = picture.parent / "missing.png"
    outcome = command("predict", registered / "model", picture.parent, missing, "--json")
    assert outcome.status == 3
    assert [row["path"] for row in json.loads(outcome.stdout)] == [str(picture)]
    told = [line for line in outcome.stderr.splitlines() if line.startswith("passed over: ")]
    assert len(told) == 2
    assert "notes.txt: expected a picture" in told[0]
    assert f"{missing}: expected an image file: No such file" in told[1]


def test_predict_refuses_where_nothing_is_left(
    command: Command, registered: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("not a picture")
    (tmp_path / "b\x1b[31m.txt").write_text("not a picture")
    out = tmp_path.parent / "answers.csv"
    for paths, said in (
        ([tmp_path / "a.txt"], f"{tmp_path / 'a.txt'}: expected a picture"),
        ([tmp_path], f"expected images, found none in 2 files: {tmp_path / 'a.txt'}"),
        ([tmp_path / "b\x1b[31m.txt"], "b\\x1b[31m.txt: expected a picture"),
    ):
        outcome = command("predict", registered / "model", *paths, "--out", out, "--json")
        assert (outcome.status, outcome.stdout) == (2, "")
        assert said in outcome.stderr.splitlines()[-1]
        assert not out.exists()


def test_predict_takes_a_list_and_writes_a_file(
    command: Command, registered: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = picture.parent / "answers.jsonl"
    stdin = io.TextIOWrapper(io.BytesIO(f"{picture}\n{picture}\n".encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    outcome = command("predict", registered / "model", "-", "--out", out, "--top-k", 2)
    assert (outcome.status, outcome.stdout) == (0, f"{out}: 2 images\n")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["path"] for row in rows] == [str(picture)] * 2
    assert [len(row["labels"]) for row in rows] == [2, 2]
    table = command("predict", registered / "model", picture, "--top-k", 2).stdout
    assert ", ".join(f"{sure:.1%}" for sure in rows[0]["confidences"][:1]) in table
    line = command("predict", registered / "model", picture, "--out", "answers.xls").refusal
    assert "answers.xls: expected a name that ends in .parquet, .csv, .jsonl" in line


def test_predict_asks_whether_a_name_means_what_is_registered(
    command: Command, picture: Path
) -> None:
    line = command("predict", "digits", picture).refusal
    assert "digits is not a model directory: there is nothing; did you mean models:/digits?" in line


@pytest.mark.parametrize("budget", ["1.01", "2G"])
def test_predict_refuses_a_budget_out_of_range(
    command: Command, registered: Path, picture: Path, budget: str
) -> None:
    line = command("predict", registered / "model", picture, "--budget", budget).refusal
    assert "expected" in line


def test_what_is_not_registered_is_refused_and_nothing_is_pulled(
    command: Command, registered: Path, picture: Path, tmp_path: Path
) -> None:
    pulled = tmp_path / "pulled"
    assert "digits" in command("pull", "models:/digts", pulled).refusal
    assert "found 7" in command("pull", "models:/digits/7", pulled).refusal
    assert "champion" in command("pull", "models:/digits@best", pulled).refusal
    assert "expected models:/NAME" in command("pull", "digits", pulled).refusal
    assert not pulled.exists()
    assert "digits" in command("models", "digts").refusal
    assert "digits" in command("predict", "models:/digts", picture).refusal
    assert "no-model" in command("predict", tmp_path / "no-model", picture).refusal


def test_promote_and_rollback_refuse_what_is_not_there_and_change_nothing(
    command: Command, registered: Path
) -> None:
    before = command("models", "--json").stdout
    assert "expected a version of digits (1), found 7" in command("promote", "digits", 7).refusal
    assert "nearest is digits" in command("promote", "digts", 1).refusal
    assert "'first'" in command("promote", "digits", "first").refusal
    line = command("rollback", "digits").refusal
    assert "model digits: expected a version with the alias previous" in line
    assert "dsnet promote digits VERSION" in line
    assert "nearest is digits" in command("rollback", "digts").refusal
    outcome = command("promote", "digits", 1)
    assert outcome.status == 0
    assert outcome.stdout == "models:/digits/1 is champion already, nothing changes\n"
    assert command("models", "--json").stdout == before


def test_pull_leaves_other_peoples_folders_alone(
    command: Command, registered: Path, picture: Path
) -> None:
    line = command("pull", "models:/digits", picture.parent).refusal
    assert str(picture.parent) in line
    assert list(picture.parent.iterdir()) == [picture]


# --------------------------------------------------------------------------------------- help


def test_listing_the_commands_imports_none_of_them() -> None:
    script = """
import sys
from jobs import cli
cli.run(["--help"])
heavy = {"torch", "ray", "mlflow", "ffcv", "pydantic", "rich"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself_with_an_example(command: Command, name: str) -> None:
    outcome = command(name, "--help")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "Examples:" in outcome.stdout
    assert f" dsnet {name}" in outcome.stdout.partition("Examples:")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("loader --threads 2", "--threads: expected a benchmark that reads it (inference, super"),
        ("overhead --gate.epochs 3", "--gate.epochs: expected a benchmark that reads it (frontier"),
        ("inference --source .", "--source: expected a benchmark that reads it (loader), found"),
    ],
)
def test_an_option_that_a_benchmark_would_not_read_is_refused(
    command: Command, arguments: str, message: str
) -> None:
    outcome = command("bench", *arguments.split())
    assert outcome.status == 2
    assert message in outcome.stderr


def test_every_field_of_the_configuration_is_a_flag_with_its_help(command: Command) -> None:
    text = squeezed(command("run", "--help").stdout)
    for field in FIELDS:
        assert squeezed(f"--{field.name} VALUE {field.description} ({field.type}; ") in text
        assert squeezed(f"default {field.default})") in text


def squeezed(text: str) -> str:
    """Without blanks, since help is wrapped to the width of the terminal."""
    return "".join(text.split())
