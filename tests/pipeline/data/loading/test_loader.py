"""What a training and an evaluation may rely on when they read a beton."""

import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import cv2
import numba
import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from dsnet.errors import InputError
from dsnet.runtime.pictures import read_picture
from pipeline.data.augment.recipes import RECIPES, get_recipe
from pipeline.data.ffcv import OSCacheManager, Reader
from pipeline.data.ingest.ingest import ingest
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.decoder import decode, random_crop, stream, uniform
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.loading.mapped_file import MappedFile
from pipeline.data.manifest import Manifest, manifest_path
from pipeline.data.random_bits import random_key
from pipeline.data.sources import open_source
from tests.pipeline.data.conftest import copy_of, encoded, fit_manifest, smooth_picture

IMAGENET = {"recipe": "imagenet", "resolution": 48, "train": True, "batch_size": 4}
DIGITS = {"recipe": "digits", "resolution": 8, "train": True, "batch_size": 64}


def read(manifest: Manifest, epoch: int = 0, view: int = 0, **how: object) -> list[Batch]:
    """One epoch."""
    with Loader(manifest.beton, LoaderOptions(**how)) as loader:
        batches = list(loader.epoch(epoch, view=view))
        assert len(batches) == len(loader)
    return batches


def by_index(batches: list[Batch]) -> dict[int, bytes]:
    """Every picture's pixels."""
    return {
        int(index): image.numpy().tobytes()
        for batch in batches
        for index, image in zip(batch.indices, batch.images, strict=True)
    }


def differing(first: dict[int, bytes], second: dict[int, bytes]) -> int:
    """How many pictures have other pixels. A long and narrow one has one crop only."""
    return sum(first[index] != second[index] for index in first)


def middle(picture: np.ndarray, crop: float, resolution: int) -> np.ndarray:
    """The evaluation form, by OpenCV itself."""
    height, width = picture.shape[:2]
    side = int(crop * min(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[top : top + side, left : left + side]
    return cv2.resize(square, (resolution, resolution), interpolation=cv2.INTER_AREA)


def reading_threads() -> list[str]:
    """Threads of loaders that are alive."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("read ahead", "decode"))]


def test_a_batch_is_uint8_pixels_with_labels_and_indices(photos_jpeg: Manifest) -> None:
    labels = photos_jpeg.labels()
    for batch in read(photos_jpeg, **IMAGENET):
        assert (batch.images.dtype, tuple(batch.images.shape)) == (torch.uint8, (4, 48, 48, 3))
        assert batch.labels.dtype == batch.indices.dtype == torch.int64
        assert batch.labels.tolist() == labels[batch.indices].tolist()


def test_pixels_depend_on_seed_epoch_view_and_index_alone(photos_jpeg: Manifest) -> None:
    """Not on the threads, the batch size or the ranks."""
    reference = by_index(read(photos_jpeg, **IMAGENET | {"batch_size": 1}))
    assert len(reference) == 15
    for other in (
        read(photos_jpeg, **IMAGENET | {"batch_size": 5, "threads": 3}),
        read(photos_jpeg, **IMAGENET | {"batch_size": 15, "threads": 2}),
        read(photos_jpeg, **IMAGENET | {"indices": np.array([3, 14, 8]), "batch_size": 3}),
        read(photos_jpeg, **IMAGENET | {"rank": 1, "world_size": 2, "batch_size": 2}),
    ):
        found = by_index(other)
        assert found == {index: reference[index] for index in found}
    for changed in ({"epoch": 1}, {"seed": 1}, {"view": 1}):
        found = by_index(read(photos_jpeg, **IMAGENET | {"batch_size": 1} | changed))
        assert differing(found, reference) >= 12


def test_a_picture_that_is_drawn_several_times_looks_different_each_time(
    photos_jpeg: Manifest,
) -> None:
    """One class of 5 pictures and one of 1: of each, three are read."""
    labels = photos_jpeg.labels()
    chosen = np.sort(np.r_[np.flatnonzero(labels == 0)[:5], np.flatnonzero(labels == 1)[:1]])
    rare = int(chosen[labels[chosen] == 1][0])
    seen = {}
    for ranks in (1, 3):
        how = IMAGENET | {"indices": chosen, "batch_size": 1, "world_size": ranks, "balanced": True}
        shares = [read(photos_jpeg, **how, rank=rank) for rank in range(ranks)]
        batches = [batch for share in shares for batch in share]
        assert np.bincount([int(b.labels[0]) for b in batches]).tolist() == [3, 3]
        looks = [b.images.numpy().tobytes() for b in batches if int(b.indices[0]) == rare]
        seen[ranks] = set(looks)
        assert len(seen[ranks]) == len(looks) == 3
    assert seen[1] == seen[3]


def test_an_epoch_may_have_a_resolution_of_its_own(photos_jpeg: Manifest) -> None:
    def side(epoch: int) -> int:
        return 16 + 16 * epoch

    rising = IMAGENET | {"resolution_of": side}
    assert read(photos_jpeg, **rising, epoch=0)[0].images.shape == (4, 16, 16, 3)
    full = read(photos_jpeg, **rising, epoch=2)
    assert by_index(full) == by_index(read(photos_jpeg, **IMAGENET, epoch=2))


def test_an_epoch_can_be_taken_up_in_its_middle(photos_jpeg: Manifest) -> None:
    with Loader(photos_jpeg.beton, LoaderOptions(**IMAGENET)) as loader:
        whole = [batch.images for batch in loader.epoch(5)]
        rest = [batch.images for batch in loader.epoch(5, start=2)]
    assert len(rest) == len(whole) - 2
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[2:], strict=True))


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("balanced", [False, True])
def test_fewer_workers_than_ranks_read_the_same_batches_in_the_same_steps(
    photos_jpeg: Manifest, workers: int, balanced: bool
) -> None:
    how = IMAGENET | {"batch_size": 2, "world_size": 3, "balanced": balanced}
    of_ranks = [read(photos_jpeg, 1, **how, rank=rank) for rank in range(3)]
    for worker in range(workers):
        ranks = range(worker, 3, workers)
        with Loader(photos_jpeg.beton, LoaderOptions(**how, rank=ranks)) as loader:
            batches = list(loader.epoch(1))
            assert len(loader) == len(batches) == sum(len(of_ranks[rank]) for rank in ranks)
            rest = list(loader.epoch(1, start=len(ranks)))
        assert [by_index([b]) for b in rest] == [by_index([b]) for b in batches[len(ranks) :]]
        for place, rank in enumerate(ranks):
            expected = [by_index([batch]) for batch in of_ranks[rank]]
            assert [by_index([batch]) for batch in batches[place :: len(ranks)]] == expected


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_evaluation_counts_every_picture_exactly_once(
    photos_jpeg: Manifest, world_size: int
) -> None:
    how = IMAGENET | {"train": False, "indices": np.arange(1, 15), "world_size": world_size}
    ranks = [read(photos_jpeg, **how, rank=rank) for rank in range(world_size)]
    counts = Counter(int(i) for batches in ranks for batch in batches for i in batch.indices)
    assert counts == Counter(range(1, 15))


def test_an_evaluation_may_be_augmented_and_still_count_each_picture_once(
    photos_jpeg: Manifest,
) -> None:
    how = IMAGENET | {"exact": True, "world_size": 2}
    views = [
        by_index(read(photos_jpeg, view=view, **how) + read(photos_jpeg, view=view, **how, rank=1))
        for view in (0, 1)
    ]
    assert [len(view) for view in views] == [15, 15]
    assert differing(*views) >= 12


@pytest.mark.parametrize(("batch_size", "batches"), [(4, 2), (3, 2), (100, 1)])
def test_in_training_every_rank_has_as_many_batches(
    photos_jpeg: Manifest, batch_size: int, batches: int
) -> None:
    how = IMAGENET | {"batch_size": batch_size, "world_size": 2}
    ranks = [read(photos_jpeg, **how, rank=rank) for rank in range(2)]
    sizes = [[len(batch.labels) for batch in rank] for rank in ranks]
    assert sizes == 2 * [batches * [min(batch_size, 8)]]


@pytest.mark.parametrize("name", [name for name, each in RECIPES.items() if not each.native])
def test_evaluation_pixels_of_raw_pictures_are_opencvs(
    photos: Path, photos_raw: Manifest, name: str
) -> None:
    """Enlarged and reduced: the photos have 20 to 420 pixels."""
    recipe = get_recipe(name)
    source = open_source(str(photos), "train")
    pixels = by_index(read(photos_raw, recipe=recipe, train=False, resolution=100, batch_size=15))
    for index in range(len(source)):
        expected = middle(read_picture(source[index].image, ""), recipe.crop, 100)
        assert pixels[index] == expected.tobytes()


@pytest.mark.parametrize("resolution", [16, 100])
@pytest.mark.parametrize("train", [False, True])
def test_pixels_of_jpegs_are_those_of_the_crop_resized_by_area(
    photos: Path, photos_jpeg: Manifest, resolution: int, train: bool
) -> None:
    """Also where JPEG is decoded at a half, a quarter or an eighth of its size."""
    source = open_source(str(photos), "train")
    recipe = get_recipe("imagenet").numbers(train)
    key = random_key(0, 0, 0)
    batches = read(
        photos_jpeg, recipe="imagenet", train=train, resolution=resolution, batch_size=15
    )
    for index, image in by_index(batches).items():
        picture = read_picture(source[index].image, "")
        if train:
            numbers = np.uint64(stream(key, index))
            top, left, height, width = random_crop(*picture.shape[:2], recipe, numbers)
            part = picture[top : top + height, left : left + width]
            size = (resolution, resolution)
            expected = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            if uniform(numbers, 40) < 0.5:
                expected = expected[:, ::-1]
        else:
            expected = middle(picture, 0.875, resolution)
        found = np.frombuffer(image, np.uint8).reshape(expected.shape)
        # What JPEG loses: 1 on average, up to 4.5 in pictures of 20 pixels, whose colour is
        # stored at half their resolution. With reduced decoding in training, also what half a
        # pixel at the crop's edges does, up to 8. Between different pictures: 60 to 80.
        assert np.abs(found.astype(int) - expected).mean() < (10 if train else 6)


def test_training_crops_are_distributed_as_torchvisions() -> None:
    height, width, count = 300, 400, 4000
    recipe = get_recipe("imagenet").numbers(train=True)
    ours = np.array(
        [
            random_crop(height, width, recipe, np.uint64(stream(np.uint64(0), i)))
            for i in range(count)
        ]
    )
    torch.manual_seed(0)
    picture = torch.empty(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    )
    quantiles = np.linspace(0.02, 0.98, 25)
    for name, value, scale in (
        ("top", lambda c: c[:, 0], height),
        ("left", lambda c: c[:, 1], width),
        ("area", lambda c: c[:, 2] * c[:, 3], height * width),
        ("shape", lambda c: np.log(c[:, 3] / c[:, 2]), 1),
    ):
        # At the median of a uniform number the quantiles of two samples of 4000 differ with a
        # standard deviation of sqrt(2 / 4000) / 2 = 0.011.
        difference = np.quantile(value(ours), quantiles) - np.quantile(value(theirs), quantiles)
        assert np.abs(difference / scale).max() < 0.045, name
    assert (ours[:, 0] + ours[:, 2]).max() <= height
    assert (ours[:, 1] + ours[:, 3]).max() <= width


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_a_picture_of_any_shape_has_a_crop_inside_it(height: int, width: int) -> None:
    recipe = get_recipe("imagenet").numbers(train=True)
    for index in range(200):
        top, left, h, w = random_crop(height, width, recipe, np.uint64(stream(np.uint64(1), index)))
        assert 0 <= top < top + h <= height
        assert 0 <= left < left + w <= width


def shifted(picture: np.ndarray, down: int, right: int) -> np.ndarray:
    """`picture` moved, black where it came from."""
    padded = np.pad(picture, ((8, 8), (8, 8), (0, 0)))
    height, width = picture.shape[:2]
    return padded[8 - down : 8 - down + height, 8 - right : 8 - right + width]


@pytest.mark.parametrize(
    ("name", "most", "mirrored"), [("digits", 1, False), ("cifar", 1, True), ("light", 0, True)]
)
def test_small_pictures_are_shifted_as_often_each_way_and_mirrored_if_so_wished(
    digits: Manifest, name: str, most: int, mirrored: bool
) -> None:
    source = open_source("digits", "test")
    ways: Counter[tuple[int, int, bool]] = Counter()
    pixels = by_index(read(digits, **DIGITS | {"recipe": name, "batch_size": 360}))
    for index, image in pixels.items():
        picture = source[index].image
        shifts = [(d, r) for d in range(-most, most + 1) for r in range(-most, most + 1)]
        found = [
            (down, right, mirror)
            for down, right in shifts
            for mirror in {False, mirrored}
            if np.ascontiguousarray(
                shifted(picture, down, right)[:, :: -1 if mirror else 1]
            ).tobytes()
            == image
        ]
        assert found, f"sample {index} is no shift of its picture"
        ways[found[0]] += 1
    # 360 pictures fall into equally likely ways: binomial, five standard deviations.
    chance = 1 / ((2 * most + 1) ** 2 * (1 + mirrored))
    assert len(ways) == 1 / chance
    bound = 5 * np.sqrt(360 * chance * (1 - chance))
    assert max(abs(count - 360 * chance) for count in ways.values()) < bound


def test_a_shift_keeps_its_share_of_the_side_at_any_resolution(photos_raw: Manifest) -> None:
    how = {"recipe": "cifar", "resolution": 32, "batch_size": 1}
    still = by_index(read(photos_raw, train=False, **how))
    largest = 0
    for epoch in range(12):
        for index, image in by_index(read(photos_raw, epoch, train=True, **how)).items():
            picture = np.frombuffer(still[index], np.uint8).reshape(32, 32, 3)
            ways = [
                (down, right)
                for down in range(-4, 5)
                for right in range(-4, 5)
                for step in (1, -1)
                if shifted(picture, down, right)[:, ::step].tobytes() == image
            ]
            assert ways
            largest = max(largest, *map(abs, ways[0]))
    assert largest == 4


def test_batches_are_not_overwritten_by_later_ones(photos_jpeg: Manifest) -> None:
    with Loader(photos_jpeg.beton, LoaderOptions(**IMAGENET | {"batch_size": 2})) as loader:
        kept, copies = [], []
        for batch in loader.epoch(0):
            kept.append(batch.images)
            copies.append(batch.images.clone())
        list(loader.epoch(1))
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


def test_leaving_an_epoch_early_ends_its_thread_and_the_next_is_whole(
    photos_jpeg: Manifest,
) -> None:
    loader = Loader(photos_jpeg.beton, LoaderOptions(**IMAGENET | {"batch_size": 1, "threads": 2}))
    for batch in loader.epoch(0):
        first = batch
        break
    assert "read ahead" not in reading_threads()
    assert torch.equal(next(iter(loader.epoch(0))).images, first.images)
    assert len(list(loader.epoch(0))) == 15
    loader.close()
    assert reading_threads() == []


def test_closing_ends_an_epoch_that_is_being_read(photos_jpeg: Manifest) -> None:
    loader = Loader(photos_jpeg.beton, LoaderOptions(**IMAGENET | {"batch_size": 1}))
    reading = loader.epoch(0)
    next(reading)
    loader.close()
    assert reading_threads() == []
    with pytest.raises(RuntimeError, match="closed in the middle"):
        next(reading)


@pytest.fixture
def copy(photos_jpeg: Manifest, tmp_path: Path) -> Path:
    """A beton to damage."""
    return copy_of(photos_jpeg, tmp_path)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_picture_that_does_not_decode_is_named(copy: Path, threads: int) -> None:
    """FFCV itself would pass on whatever pixels were in the buffer."""
    table = Reader(str(copy)).alloc_table
    (row,) = table[table["sample_id"] == 11]
    with open(copy, "r+b") as file:
        file.seek(int(row["ptr"]) + int(row["size"]) // 2)
        file.write(bytes(int(row["size"]) // 2))
    fit_manifest(copy)
    with Loader(copy, LoaderOptions(**IMAGENET | {"threads": threads, "train": False})) as loader:
        with pytest.raises(InputError, match=r"x\.beton, sample 11: expected a picture that"):
            list(loader.epoch(0))
        assert "read ahead" not in reading_threads()


def test_a_file_cut_short_under_the_loader_is_an_error_not_a_crash(copy: Path) -> None:
    """Raised where the batches are read, though found in another thread."""
    with Loader(copy, LoaderOptions(**IMAGENET)) as loader:
        os.truncate(copy, 8 * 2**20 + 1000)  # the pictures begin at 8 MiB
        with pytest.raises(InputError, match=r"x\.beton: .* changed since it was verified"):
            list(loader.epoch(0))
    assert reading_threads() == []


def test_a_loader_goes_on_with_the_file_it_verified_when_another_takes_its_name(
    copy: Path, digits: Manifest
) -> None:
    with Loader(copy, LoaderOptions(**IMAGENET)) as loader:
        before = [batch.images for batch in loader.epoch(0)]
        shutil.copy(digits.beton, copy.with_name("y.beton"))
        copy.with_name("y.beton").replace(copy)
        after = [batch.images for batch in loader.epoch(0)]
        copy.unlink()
        again = [batch.images for batch in loader.epoch(0)]
    for others in (after, again):
        assert all(torch.equal(a, b) for a, b in zip(before, others, strict=True))


def test_the_decoder_is_compiled_once_for_all_recipes_sizes_and_threads(
    photos_jpeg: Manifest, digits: Manifest
) -> None:
    read(digits, **DIGITS)
    compiled = list(decode.signatures)
    read(digits, **DIGITS | {"recipe": "cifar", "resolution": 32, "threads": 2}, epoch=3)
    read(photos_jpeg, **IMAGENET, rank=1, world_size=2)
    read(photos_jpeg, **IMAGENET | {"train": False, "indices": np.array([1])})
    assert len(compiled) == 1
    assert decode.signatures == compiled


IN_ANOTHER_PROCESS = """
import sys, torch
torch.set_num_threads(3)
from pipeline.data.loading.decoder import decode
from pipeline.data.loading.loader import Loader, LoaderOptions
options = LoaderOptions(recipe="digits", resolution=8, train=True, batch_size=64)
with Loader(sys.argv[1], options) as loader:
    list(loader.epoch(0))
print(torch.get_num_threads(), sum(decode.stats.cache_misses.values()))
print("torchvision" in sys.modules)  # seconds of every worker's start, where no recipe needs it
"""


def test_other_processes_compile_nothing_and_keep_torchs_threads(digits: Manifest) -> None:
    read(digits, **DIGITS)  # compiled and kept on disk, if it was not before
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(digits.beton)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["3", "0", "False"]


def test_ffcvs_memory_manager_leaves_numbas_types_alone(digits: Manifest) -> None:
    read(digits, **DIGITS)
    OSCacheManager(Reader(str(digits.beton))).compile_reader()
    assert numba.uint8[::1].mutable
    assert len(decode.signatures) == 1  # still found under the types that it was compiled for


def test_the_lean_memory_map_finds_what_ffcvs_own_finds(photos_jpeg: Manifest) -> None:
    reader = Reader(str(photos_jpeg.beton))
    ours, theirs = MappedFile(reader), OSCacheManager(reader)
    assert ours.addresses.tolist() == theirs.ptrs.tolist()
    assert ours.sizes.tolist() == theirs.sizes.tolist()
    assert len(ours.addresses) == 15


def test_a_picture_much_larger_than_the_others_is_read(tmp_path: Path) -> None:
    root = tmp_path / "in" / "a"
    root.mkdir(parents=True)
    (root / "1.png").write_bytes(encoded(smooth_picture(9, 7, seed=0)))
    (root / "2.png").write_bytes(encoded(smooth_picture(1500, 900, seed=1)))
    manifest = ingest(open_source(str(tmp_path / "in"), "train"), tmp_path / "x.beton")
    pixels = by_index(read(manifest, recipe="imagenet", train=False, resolution=64, batch_size=2))
    for index, size in enumerate([(9, 7), (1500, 900)]):
        expected = middle(smooth_picture(*size, seed=index), 0.875, 64)
        found = np.frombuffer(pixels[index], np.uint8).reshape(64, 64, 3)
        assert np.abs(found.astype(int) - expected).mean() < 4


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"batch_size": 0}, "batch_size: expected 1 or more, found 0"),
        ({"resolution": -1}, "resolution: expected 1 or more, found -1"),
        ({"threads": 0}, "threads: expected 1 or more, found 0"),
        (
            {"recipe": "imagnet"},
            "recipe: expected one of imagenet, cifar, light, digits, paper, evaluation, patches, "
            "found 'imagnet'",
        ),
        ({"indices": np.array([0, 360])}, "indices: expected 0 to 359, found 0 to 360"),
        ({"indices": np.array([], int)}, "indices: expected at least one"),
    ],
)
def test_wrong_arguments_are_refused(digits: Manifest, how: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Loader(digits.beton, LoaderOptions(**DIGITS | how))


def test_a_beton_without_its_manifest_is_refused(copy: Path) -> None:
    manifest_path(copy).unlink()
    with pytest.raises(InputError, match="expected its manifest"):
        Loader(copy, LoaderOptions(**IMAGENET))
