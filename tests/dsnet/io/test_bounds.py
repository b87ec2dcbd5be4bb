"""What a model directory declares is held to types and bounds before it takes time or memory."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import dsnet
from dsnet import DSNet, InputError, Metadata
from dsnet.io.files import read_sums, write_sums
from dsnet.io.weights import load_gates
from dsnet.nn.gate import make_head
from dsnet.routing.tuned import TunedGate

MANY = 20_000


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with a gate and tuned gates; tests put back what they change."""
    torch.manual_seed(0)
    metadata = Metadata(resolution=8, classes=tuple("abc"), prices=((0.0, 2e5), (1.0, 1e5)))
    model = dsnet.create_model("ds_mbnet_digits", metadata=metadata).eval()
    head = make_head(model.gates[0].features, 4, hidden=3)
    gates = [TunedGate((head,), 1.5e5, 0.5, metadata.prices)]
    return dsnet.save(model, tmp_path_factory.mktemp("bounds") / "model", gates)


@pytest.fixture
def change(directory: Path) -> Any:
    """Writes files of the directory anew, checksums and all, for the time of a test."""
    before = {path: path.read_bytes() for path in directory.iterdir()}

    def write(name: str, content: bytes) -> Path:
        (directory / name).write_bytes(content)
        write_sums(directory)
        return directory

    yield write
    for path, content in before.items():
        path.write_bytes(content)


Change = Callable[[str, bytes], Path]


def refusal(directory: Path) -> str:
    """The one line with which a directory is refused, free of control codes."""
    found = problem(directory)
    assert found is not None
    return found


def problem(directory: Path) -> str | None:
    """How a directory is refused, in one line; None if it is not."""
    try:
        load_gates(directory)
        assert isinstance(dsnet.load(directory), DSNet)
    except InputError as error:
        (line,) = str(error).splitlines()
        return line if line.isprintable() and len(line) < 1000 else "no short line"
    return None


def described(directory: Path) -> dict[str, Any]:
    description: dict[str, Any] = json.loads((directory / "model.json").read_text())
    return description


def rewritten(directory: Path, path: tuple[str | int, ...], value: Any) -> bytes:
    """model.json with another value at a path of keys and indices."""
    description = described(directory)
    *way, last = path
    place: Any = description
    for key in way:
        place = place[key]
    place[last] = value
    return json.dumps(description).encode()


# model.json --------------------------------------------------------------------------------------

STAGE = {"channels": [4, 8], "blocks": 1, "stride": 1, "kernel": 3, "gated": False}
A, M = "architecture", "metadata"
HUGE = 10**400  # JSON sets no bound to a number

OUT_OF_BOUNDS: list[tuple[tuple[str | int, ...], Any, str]] = [
    ((A, "stages"), [STAGE] * MANY, "network stages must have up to 64 entries, found 20,000"),
    ((A, "stages", 0, "blocks"), MANY, "stage blocks must be a whole number up to 512"),
    ((A, "stages"), [{**STAGE, "blocks": 100}] * 10, "up to 512 blocks, found 1,000"),
    ((A, "stages", 0, "channels"), [8, 10**9], "stage channels must be a whole number up to"),
    ((A, "stages", 0, "channels"), list(range(1, MANY)), "stage channels must have up to 256"),
    ((A, "stages", 0, "channels"), ["8", "16"], "stage channels must be a whole number"),
    ((A, "stages", 0, "channels"), [[8], {}], "stage channels must be a whole number"),
    ((A, "stages", 0, "stride"), HUGE, "stage stride must be a whole number up to"),
    ((A, "stages", 0, "kernel"), 1001, "stage kernel must be a whole number up to"),
    ((A, "stages", 0, "gated"), "yes", "stage gated must be true or false"),
    ((A, "stages"), "stages", "not readable"),
    ((A, "stages"), [{**STAGE, "channels": list(range(4, 84, 4)), "gated": True}] * 4, "160,000"),
    ((A, "num_classes"), 10**12, "network num_classes must be a whole number up to"),
    ((A, "resolution"), 10**9, "network resolution must be a whole number up to"),
    ((A, "name"), ["a"], "network name must be text"),
    ((A, "name"), "x" * MANY, "network name must be text of up to 1,000 characters"),
    ((A, "name"), "\x1b[2J", "network name must be text without control codes"),
    ((A, "family"), "\x1b[2J", "network family must be text without control codes"),
    ((A, "family"), {"a": 1}, "network family must be text"),
    ((A, "stem_pool"), 1, "network stem_pool must be true or false"),
    ((A, "dropout"), "0.5", "not readable"),
    ((A, "routes"), [["a"]], "network routes must be whole numbers"),
    ((A, "routes"), [[0, 1]] * MANY, "network routes must have up to"),
    ((A, "\x1b[2J"), 1, "architecture has unknown fields"),
    ((M, "resolution"), 10**9, "metadata.resolution must be a whole number up to"),
    ((M, "resolution"), "8", "metadata.resolution must be a whole number"),
    ((M, "mean"), [0.5], "metadata.mean must have 3 entries"),
    ((M, "mean"), [True, 0, 0], "metadata.mean: expected finite numbers"),
    ((M, "std"), [0.5] * MANY, "metadata.std must have up to 3 entries"),
    ((M, "std"), 1, "metadata.std must be a list"),
    ((M, "crop"), 2, "metadata.crop: expected a fraction up to 1"),
    ((M, "crop"), None, "metadata.crop: expected finite numbers"),
    ((M, "price"), HUGE, "metadata.price: expected finite numbers"),
    ((M, "prices"), [[0, 1, 2]], "metadata.prices: expected pairs"),
    ((M, "prices"), [1, 2], "metadata.prices: expected pairs"),
    ((M, "prices"), [[1, 5], [1, 4]], "metadata.prices: expected rising prices"),
    ((M, "prices"), [[1, 4], [2, 5]], "metadata.prices: expected rising prices with falling"),
    ((M, "prices"), [[i, 1] for i in range(MANY)], "metadata.prices must have up to"),
    ((M, "classes"), "abc", "metadata.classes must be a list"),
    ((M, "classes"), ["a"] * 11, "names for up to 10 classes, found 11"),
    ((M, "classes"), ["\x1b]0;owned\x07"], "metadata.classes must be text without control codes"),
    ((M, "classes"), ["line\nbreak"], "metadata.classes must be text without control codes"),
    ((M, "classes"), ["\u202egnp.exe"], "metadata.classes must be text without control codes"),
    ((M, "classes"), ["\ud800"], "metadata.classes must be text without control codes"),
    ((M, "classes"), [None], "metadata.classes must be text"),
    (("gates",), {"0": 1}, "gates must be a list"),
    (("gates",), [{}] * MANY, "gates must have up to 1,000 entries"),
    (("gates",), [1], "expected tuned gates"),
    (("gates", 0, "target"), HUGE, "expected tuned gates"),
    (("gates", 0, "prices"), [[0, 1]] * MANY, "gates.prices must have up to"),
    (("source",), [1], "is not a model description"),
    (("format",), HUGE, "has format"),
    (("format",), [[[[]]]], "has format"),
    ((A, "x"), [[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]], "nested deeper than 16 levels"),
]


@pytest.mark.parametrize(("path", "value", "said"), OUT_OF_BOUNDS)
def test_what_is_mistyped_or_out_of_bounds_is_refused_by_name(
    directory: Path, change: Change, path: tuple[str | int, ...], value: Any, said: str
) -> None:
    assert said in refusal(change("model.json", rewritten(directory, path, value)))


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"format": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 50_000,
        b'{"format": 1' + b"0" * 5000 + b"}",
        b'{"format": 1, "format": {}}',
        "{}".encode("utf-16"),
        b"null",
        b'"\\ud800"',
    ],
)
def test_what_is_no_description_is_refused(directory: Path, change: Change, content: bytes) -> None:
    line = refusal(change("model.json", content))
    assert "model.json is not a model description" in line or "has format" in line


def test_a_description_that_is_too_large_is_not_read(directory: Path, change: Change) -> None:
    with open(directory / "model.json", "r+b") as file:
        file.truncate(2**24 + 1)  # a hole, which takes no room on the disk
    write_sums(directory)
    assert "up to 16,777,216 bytes, found 16,777,217" in refusal(directory)


def test_a_network_that_would_compute_for_ever_is_refused(directory: Path, change: Change) -> None:
    wide = {**STAGE, "channels": [2**15, 2**16], "blocks": 100, "kernel": 63}
    description = described(directory)
    description[A].update(family="resnet", stages=[wide], resolution=8192)
    description[M]["resolution"] = 8192
    line = refusal(change("model.json", json.dumps(description).encode()))
    assert "up to 1,000,000,000,000,000 multiply-adds" in line


def test_a_network_larger_than_its_weights_is_refused_without_its_memory(
    directory: Path, change: Change
) -> None:
    # 4 TB of weights: building them first would be the end of the process.
    wide = {**STAGE, "channels": [2**15, 2**16], "blocks": 250}
    line = refusal(change("model.json", rewritten(directory, (A, "stages"), [wide])))
    assert "weights.safetensors does not fit its model.json" in line


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON document, the first five entries of its lists."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value[:5]))
    return [found for key, inner in items for found in [(*path, key), *places(inner, (*path, key))]]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_is_taken_or_refused_in_a_line(
    directory: Path, change: Change, data: st.DataObject
) -> None:
    original = json.loads((directory / "model.json").read_text())
    path = data.draw(st.sampled_from(places(original)))
    content = rewritten(directory, path, data.draw(json_values))
    try:
        change("model.json", content)
        assert problem(directory) != "no short line"
    finally:
        change("model.json", json.dumps(original).encode())


# safetensors -------------------------------------------------------------------------------------


def test_a_header_that_claims_too_much_is_not_read(directory: Path, change: Change) -> None:
    weights = directory / "weights.safetensors"
    with open(weights, "r+b") as file:
        file.write(struct.pack("<Q", 2**40))
    write_sums(directory)
    assert "its header would take 1,099,511,627,776 bytes" in refusal(directory)


def test_heads_of_more_units_than_weights_are_refused_without_their_memory(
    directory: Path, change: Change
) -> None:
    # Empty tensors take no byte of a file; the layer between the two would take 4 TB.
    heads = {
        "0.0.0.weight": torch.empty(2**20, 0),
        "0.0.0.bias": torch.empty(0),
        "0.0.2.weight": torch.empty(2**20, 0),
    }
    save_file(heads, directory / "gates.safetensors")
    write_sums(directory)
    assert "gates.safetensors does not fit its model.json" in refusal(directory)
    state = load_file(directory / "weights.safetensors")
    prefix = "stages.3.0.gate.slimming."
    state = {name: value for name, value in state.items() if not name.startswith(prefix)}
    state |= {prefix + name.removeprefix("0.0."): value for name, value in heads.items()}
    save_file(state, directory / "weights.safetensors")
    write_sums(directory)
    with pytest.raises(InputError, match=r"weights\.safetensors does not fit its model\.json"):
        dsnet.load(directory)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 3000), content=st.binary(min_size=1, max_size=8))
@example(place=0, content=b"\xff" * 8)
@example(place=0, content=b"\x00" * 8)
def test_any_bytes_in_a_header_are_taken_or_refused_in_a_line(
    directory: Path, change: Change, place: int, content: bytes
) -> None:
    weights = directory / "weights.safetensors"
    before = weights.read_bytes()
    try:
        change(weights.name, before[:place] + content + before[place + len(content) :])
        assert problem(directory) != "no short line"
    finally:
        change(weights.name, before)


# SHA256SUMS --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["/etc/hostname", "../secret", "a/../../secret", "..", "/", "weights.safetensors\0"],
)
def test_checksums_name_files_of_their_own_folder_alone(
    directory: Path, change: Change, name: str
) -> None:
    sums = (directory / "SHA256SUMS").read_text()
    (directory / "SHA256SUMS").write_text(f"{sums}{'0' * 64}  {name}\n")
    line = refusal(directory)
    assert "SHA256SUMS: expected files of its own folder, found" in line


def test_checksums_that_are_too_long_are_not_read(directory: Path, change: Change) -> None:
    with open(directory / "SHA256SUMS", "r+b") as file:
        file.truncate(2**30)
    assert "checksums of up to 1,048,576 bytes, found 1,073,741,824" in refusal(directory)


@given(content=st.binary(max_size=300))
def test_any_checksums_name_nothing_outside(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "sums"
    folder.mkdir(exist_ok=True)
    (folder / "SHA256SUMS").write_bytes(content)
    try:
        names = read_sums(folder)
    except InputError:
        return
    assert all((folder / name).resolve().is_relative_to(folder.resolve()) for name in names)
