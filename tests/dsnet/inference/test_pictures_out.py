"""Networks whose answers are pictures: of any size, in torch, in ONNX and in tiles alike."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dsnet
from dsnet import DSNet, InputError, Metadata, Predictor
from dsnet.inference.export import export
from dsnet.inference.fold import fold
from dsnet.inference.reach import reach, surroundings
from dsnet.routing import build_rows
from dsnet.runtime.session import Session
from dsnet.runtime.tiles import Run, Surroundings, restore, tiles, to_pixels
from tests.dsnet.conftest import randomize

SIZES = [(24, 24), (41, 27), (80, 25)]  # the gate was set for the first


def denoiser() -> DSNet:
    """One that picks different widths for different pictures, and changes every pixel."""
    torch.manual_seed(0)
    metadata = Metadata(resolution=24, mean=(0.0,) * 3, std=(1.0,) * 3, task={"noise": [5, 50]})
    model = randomize(dsnet.create_model("ds_denoiser_48", metadata=metadata)).float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("conv2.weight"):
                weight *= 5  # so that what is far away matters too
        images = dsnet.normalize(pictures(24, 24, 64), (0.0,) * 3, (1.0,) * 3)
        _, reduced = model.eval().segment(0, images, model.space[0])
        (gate,) = model.gates
        assert reduced is not None and gate.slimming is not None
        # No route is ahead on average, so that each of them is picked for some pictures.
        towards = reduced.mean(0) / reduced.mean(0).norm()
        gate.slimming.weight -= torch.outer(gate.slimming.weight @ towards, towards)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> DSNet:
    return denoiser()


@pytest.fixture(scope="module")
def session(model: DSNet, tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Session(export(model, tmp_path_factory.mktemp("onnx") / "model.onnx"), threads=1)


def pictures(height: int, width: int, count: int = 6) -> torch.Tensor:
    """Of all contrasts, uint8."""
    noise = torch.randint(0, 256, (count, height, width, 3))
    return (noise * torch.linspace(0.1, 1, count)[:, None, None, None]).to(torch.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_onnx_answers_as_torch_does_whatever_the_size(
    model: DSNet, session: Session, size: tuple[int, int]
) -> None:
    pixels = pictures(*size)
    images = dsnet.normalize(pixels, model.metadata.mean, model.metadata.std)
    with torch.no_grad():
        outputs, widths, madds = model.routed(images)
    assert outputs.shape == (6, 3, *size)
    assert len(widths.unique()) > 1 or size != SIZES[0]
    assert madds.tolist() == [model.madds(w, size) for w in widths.tolist()]
    folded = Predictor(model).routed(pixels)
    for found in (folded, [torch.from_numpy(each) for each in session(pixels.numpy())]):
        torch.testing.assert_close(found[0], outputs, rtol=1e-4, atol=1e-5)
        assert torch.equal(found[1], widths)
        assert torch.equal(found[2], madds)


def test_none_at_all_come_out_as_none(model: DSNet, session: Session) -> None:
    none = pictures(16, 18, 0)
    assert Predictor(model)(none)[0].shape == (0, 3, 16, 18)
    assert session(none.numpy())[0].shape == (0, 3, 16, 18)


def test_a_table_says_what_the_network_answers(model: DSNet) -> None:
    images = dsnet.normalize(pictures(24, 24), model.metadata.mean, model.metadata.std)
    inputs, targets = model.task.pair(images, torch.zeros(6), torch.arange(6))
    table = build_rows(model, inputs, targets)
    for path, route in enumerate(model.space.routes):
        with torch.no_grad():
            measured = model.task.measure(model(inputs, width=route), targets)
        for name, values in measured.items():
            torch.testing.assert_close(table.measures[name][:, path], values)
        assert table.paths.madds[path] == model.madds(route)


def test_its_settings_are_part_of_the_model(model: DSNet, tmp_path: Path) -> None:
    loaded = dsnet.load(dsnet.save(model, tmp_path / "model"))
    assert loaded.task.settings() == {"noise": [5.0, 50.0]}
    assert loaded.metadata.to_dict()["task"] == {"noise": [5, 50]}
    assert "task" not in Metadata().to_dict()


def test_what_the_stem_saw_comes_to_the_head_whole() -> None:
    """Where no block adds anything, every width is linear in the picture: no sign is lost."""
    network = randomize(dsnet.create_model("ds_denoiser_48")).float().eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("conv2.weight") or "bias" in name:
                weight.zero_()
        one, other = torch.randn(2, 1, 3, 24, 24)
        for width in network.space:
            parts = network(one, width=width) - 2 * network(other, width=width)
            whole = network(one - 2 * other, width=width)
            assert (whole - one + 2 * other).abs().max() > 0.1  # the residue, not the picture alone
            torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-4)


def test_a_pixel_depends_on_those_within_reach_and_no_others(model: DSNet) -> None:
    """By the gradient of single pixels, in the middle of any square that is shuffled into place."""
    far = reach(fold(model))
    side = 2 * far + 12
    seen = 0
    for row, column in ((far + 4, far + 4), (far + 5, far + 5), (far + 4, far + 5)):
        image = torch.rand(1, 3, side, side, requires_grad=True)
        # Its convolutions alone: where a ReLU is shut says nothing of how far they look.
        smooth = denoiser().double()
        for parameter in smooth.parameters():
            parameter.data.abs_()
        output = smooth(image.double(), width=smooth.space.largest)
        (gradient,) = torch.autograd.grad(output[0, :, row, column].sum(), image)
        rows, columns = gradient.abs().sum((0, 1)).nonzero().unbind(1)
        offsets = [(rows - row).abs().max(), (columns - column).abs().max()]
        assert max(map(int, offsets)) <= far
        seen = max(seen, *map(int, offsets))
    assert seen == far


def run_at(model: DSNet, width: int | None) -> Run:
    predictor = Predictor(model, width=width)

    def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        outputs, widths, madds = predictor.routed(pixels)
        return outputs.numpy(), widths.numpy(), madds.numpy()

    return run


@pytest.mark.parametrize("width", [0, 3])
def test_tiles_give_what_the_whole_does(model: DSNet, width: int) -> None:
    picture = pictures(151, 203, 1)[0].numpy()
    around, run = surroundings(model), run_at(model, width)
    assert around is not None
    whole = restore(run, picture, around, tile=1000)
    outputs, _, madds = run(picture[None])
    assert np.array_equal(whole.picture, to_pixels(outputs[0]))
    assert (whole.width, whole.widths, whole.madds) == (width, [width], int(madds[0]))
    tiled = restore(run, picture, around, tile=64)
    assert tiled.widths == [width] * 12 and tiled.madds > whole.madds
    # The same sums in another order: a pixel may round the other way.
    difference = np.abs(tiled.picture.astype(int) - whole.picture)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    cut_short = restore(run, picture, Surroundings(2, around.factor), tile=64)
    assert (cut_short.picture != whole.picture).mean() > 0.05


def test_each_tile_runs_at_a_width_of_its_own(model: DSNet) -> None:
    picture = pictures(64, 192, 1)[0].numpy().copy()
    picture[:, 96:] = picture[:, 96:] // 12
    around = surroundings(model)
    assert around is not None
    made = restore(run_at(model, None), picture, around, tile=64)
    assert len(made.widths) == 3 and made.width in made.widths


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    side=st.integers(1, 40),
    margin=st.integers(0, 12),
    factor=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=100, deadline=None)
def test_what_tiles_keep_is_the_picture_once(
    height: int, width: int, side: int, margin: int, factor: int
) -> None:
    picture = np.arange(height * width).reshape(height, width)
    again = np.full_like(picture, -1)
    for tile in tiles(height, width, side, margin * factor, factor):
        assert all(part.start % factor == 0 for part in tile.seen)
        assert (again[tile.place] == -1).all()
        again[tile.place] = picture[tile.seen][tile.kept]
    assert np.array_equal(again, picture)


def test_a_picture_smaller_than_what_it_looks_at_is_refused(model: DSNet) -> None:
    around = surroundings(model)
    assert around is not None
    with pytest.raises(InputError, match=r"tiny.png: expected a picture of more than 21 pixels"):
        restore(run_at(model, 0), pictures(21, 60, 1)[0].numpy(), around, place="tiny.png")


def test_a_network_that_looks_at_all_of_a_picture_has_no_reach(
    build: Callable[..., DSNet],
) -> None:
    classifier = build("mbnet with one gate").float()
    assert surroundings(classifier) is None
    with pytest.raises(InputError, match="pixels depend on those nearby"):
        reach(fold(classifier))
