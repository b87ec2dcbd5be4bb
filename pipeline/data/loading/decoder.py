"""The FFCV decoder: a stored picture to the network's input, repeatable to the bit.

Every random number is a hash of (seed, epoch, view, sample index) and its own place, so a picture
comes out the same whatever the threads, the batch size or the worker. FFCV's own crops draw from
numba's per-thread generators, which nothing seeds.

The kernel calls FFCV's C library by name rather than through ctypes, and is compiled without
FFCV's generated closures: so numba can keep the compiled code on disk, and one compilation serves
every recipe, resolution and process.
"""

import ctypes
import math
from typing import Any

import llvmlite.binding as llvm
import numba as nb
import numpy as np

from dsnet.runtime.pixels import middle_square
from pipeline.data.augment.recipes import Numbers
from pipeline.data.beton_format import JPEG
from pipeline.data.ffcv import LIBRARY
from pipeline.data.loading.area import is_by_area, shrink
from pipeline.data.loading.compiled import jit

Crop = tuple[int, int, int, int]  # top, left, height, width
Memory = tuple[np.ndarray, np.ndarray, np.ndarray, Numbers, np.ndarray]

# What the kernel writes for each picture; OUTSIDE: it, or its crop, is not where it should be.
DECODED, DAMAGED, OUTSIDE = 0, 1, 2

_library = ctypes.CDLL(LIBRARY)
for _name in ("imdecode", "resize"):
    _address = ctypes.cast(getattr(_library, _name), ctypes.c_void_p).value
    llvm.add_symbol(f"ffcv_{_name}", _address)

# int imdecode(source, bytes, height, width, destination, crop height and width, crop offset x and
# y, scale numerator and denominator, crop?, flip?): turbojpeg; 0 if every bit of it decoded.
_imdecode: Any = nb.types.ExternalFunction(
    "ffcv_imdecode",
    nb.int32(nb.uintp, nb.uint64, nb.uint32, nb.uint32, nb.uintp, *(8 * [nb.uint32])),
)
# void resize(unused, source, its height and width, first and end row, first and end column,
# destination, its height and width): OpenCV, by area; bilinear when it enlarges. What `shrink`
# computes as well is left to that.
_resize: Any = nb.types.ExternalFunction("ffcv_resize", nb.void(*(11 * [nb.int64])))

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S11 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(11)
_UNIT = 2.0**-53

# Places of a sample's random numbers, so that what a recipe leaves out moves no other number. A
# crop's ten tries take 0 to 39; what the device adds begins at 64, see `augmentation`.
_MIRRORED, _DOWN, _RIGHT, _LEFT_EDGE, _TOP_EDGE, _FLIPPED, _TRANSPOSED, _CHANNELS = range(40, 48)


@jit
def hash64(counter: np.uint64) -> np.uint64:
    """splitmix64, as in random_bits."""
    z = counter + _GOLDEN
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@jit
def stream(key: np.uint64, sample: int) -> np.uint64:
    """The key of one sample's random numbers; hashed twice, so that neighbours are not alike."""
    return hash64(key ^ hash64(np.uint64(sample)))


@jit
def uniform(key: np.uint64, place: int) -> np.float64:
    """A float64 in [0, 1): random number `place` of the stream `key`."""
    return np.float64(hash64(key + np.uint64(place) * _GOLDEN) >> _S11) * _UNIT


@jit
def random_crop(height: int, width: int, recipe: Numbers, key: np.uint64) -> Crop:
    """Inception's crop as torchvision draws it: ten tries, then the middle."""
    narrowest, widest = recipe.narrowest, recipe.widest
    for attempt in range(10):
        share = recipe.smallest + (recipe.largest - recipe.smallest) * uniform(key, 4 * attempt)
        area = height * width * share
        low, high = math.log(narrowest), math.log(widest)
        shape = math.exp(low + (high - low) * uniform(key, 4 * attempt + 1))
        w = round(math.sqrt(area * shape))
        h = round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            top = int(uniform(key, 4 * attempt + 2) * (height - h + 1))
            left = int(uniform(key, 4 * attempt + 3) * (width - w + 1))
            return top, left, h, w
    h, w = height, width
    if width < height * narrowest:
        h = max(1, round(width / narrowest))
    elif width > height * widest:
        w = max(1, round(height * widest))
    return (height - h) // 2, (width - w) // 2, h, w


_middle_square = jit(middle_square)


@jit
def _shift(image: np.ndarray, down: int, right: int) -> None:
    """Move a picture in place; black where it came from."""
    height, width, _ = image.shape
    for i in range(height):
        row = height - 1 - i if down > 0 else i
        for j in range(width):
            column = width - 1 - j if right > 0 else j
            inside = 0 <= row - down < height and 0 <= column - right < width
            for channel in range(3):
                image[row, column, channel] = (
                    image[row - down, column - right, channel] if inside else 0
                )


@jit
def _swap(row: np.ndarray, column: int, other_row: np.ndarray, other_column: int) -> None:
    """Two pixels, in place. Not channel by channel: that takes nearly twice as long."""
    red, green, blue = row[column, 0], row[column, 1], row[column, 2]
    row[column, 0] = other_row[other_column, 0]
    row[column, 1] = other_row[other_column, 1]
    row[column, 2] = other_row[other_column, 2]
    other_row[other_column, 0] = red
    other_row[other_column, 1] = green
    other_row[other_column, 2] = blue


@jit
def _mirror(image: np.ndarray) -> None:
    height, width, _ = image.shape
    for number in range(height):
        row = image[number]
        for left in range(width // 2):
            _swap(row, left, row, width - 1 - left)


@jit
def _flip(image: np.ndarray) -> None:
    """Upside down."""
    height, width, _ = image.shape
    for top in range(height // 2):
        row, other_row = image[top], image[height - 1 - top]
        for column in range(width):
            _swap(row, column, other_row, column)


@jit
def _transpose(image: np.ndarray) -> None:
    """Rows for columns, of a square."""
    for row in range(image.shape[0]):
        for column in range(row):
            _swap(image[row], column, image[column], row)


@jit
def _permute_channels(image: np.ndarray, order: int) -> None:
    """One of the six orders of red, green and blue, by its number; 0 leaves them."""
    first = order // 2
    others = ((first + 1) % 3, (first + 2) % 3)
    second, third = (others[0], others[1]) if order % 2 == 0 else (others[1], others[0])
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            pixel = (
                image[row, column, first],
                image[row, column, second],
                image[row, column, third],
            )
            for channel in range(3):
                image[row, column, channel] = pixel[channel]


@jit
def jpeg_size(data: np.ndarray) -> tuple[int, int]:
    """Height and width that a JPEG, uint8 (n,), gives itself; (0, 0) where it does not say.

    turbojpeg would scale a JPEG of another size than asked for to what fits, without a word.
    """
    at = 2  # after the start of image; then segments: 0xFF, a marker, two bytes of length
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fills up
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = data[at + 5] * 256 + data[at + 6], data[at + 7] * 256 + data[at + 8]
            return height, width
        elif marker < 0xC0 or 0xD0 <= marker <= 0xDA:  # what a header has not
            return 0, 0
        else:
            at += 2 + data[at + 2] * 256 + data[at + 3]
    return 0, 0


@jit
def _place(
    data: np.ndarray,
    is_jpeg: bool,
    height: int,
    width: int,
    recipe: Numbers,
    key: np.uint64,
    scratch: np.ndarray,
    image: np.ndarray,
) -> int:
    """One picture, stored as `data`, uint8 (n,), into `image`, uint8 (R, R, 3).

    Whatever the numbers say, nothing is read outside `data` or written outside `scratch`.
    """
    # turbojpeg writes as many pixels as it is told, and FFCV reads as many raw ones as the record
    # says: both are refused before either is called.
    needed = 3 * height * width
    if height < 1 or width < 1 or needed > (len(scratch) if is_jpeg else len(data)):
        return DAMAGED
    if is_jpeg and jpeg_size(data) != (height, width):
        return DAMAGED
    resolution = image.shape[0]
    reduced = 1
    if recipe.native:
        if min(height, width) < resolution:
            return OUTSIDE
        h = w = resolution
        across, down = 0.5, 0.5  # the middle
        if recipe.anywhere:
            across, down = uniform(key, _LEFT_EDGE), uniform(key, _TOP_EDGE)
        top, left = int(down * (height - h + 1)), int(across * (width - w + 1))
    elif recipe.largest > 0:
        top, left, h, w = random_crop(height, width, recipe, key)
        # Where a crop has at least twice the pixels needed, its JPEG is decoded at a half, a
        # quarter or an eighth: turbojpeg then skips most of the work, and averages as it does so.
        # The crop's edges move by half of such a pixel at most, so an evaluation goes without.
        while reduced < 8 and min(h, w) >= 2 * reduced * resolution:
            reduced *= 2
    else:
        top, left, h = _middle_square(height, width, recipe.crop)
        w = h
    pixels = np.uintp(data.ctypes.data)
    if is_jpeg:
        status = _imdecode(
            pixels,
            np.uint64(len(data)),
            np.uint32(height),
            np.uint32(width),
            np.uintp(scratch.ctypes.data),
            np.uint32(height),
            np.uint32(width),
            np.uint32(0),
            np.uint32(0),
            np.uint32(1),
            np.uint32(reduced),
            np.uint32(0),
            np.uint32(0),
        )
        if status != 0:
            return DAMAGED
        pixels = np.uintp(scratch.ctypes.data)
        # The crop in reduced pixels, each edge rounded to the nearest.
        height, width = -(-height // reduced), -(-width // reduced)  # turbojpeg rounds up
        bottom = min((top + h + reduced // 2) // reduced, height)
        right = min((left + w + reduced // 2) // reduced, width)
        top, left = (top + reduced // 2) // reduced, (left + reduced // 2) // reduced
        h, w = bottom - top, right - left
    if min(top, left) < 0 or min(h, w) < 1 or top + h > height or left + w > width:
        return OUTSIDE
    if is_by_area(h, w, resolution, resolution):
        # Two calls, for what is decoded and what lies in the file are of two types to numba.
        if is_jpeg:
            shrink(scratch, 3 * width, top, left, h, w, image)
        else:
            shrink(data, 3 * width, top, left, h, w, image)
    else:
        _resize(
            0,
            np.int64(pixels),
            height,
            width,
            top,
            top + h,
            left,
            left + w,
            np.int64(image.ctypes.data),
            resolution,
            resolution,
        )
    # Shifts and flips come after resizing, on the few pixels that the network sees.
    most = round(recipe.shift * resolution)
    if most > 0:
        down = int(uniform(key, _DOWN) * (2 * most + 1)) - most
        sideways = int(uniform(key, _RIGHT) * (2 * most + 1)) - most
        if down != 0 or sideways != 0:
            _shift(image, down, sideways)
    if recipe.flip and uniform(key, _MIRRORED) < 0.5:
        _mirror(image)
    if recipe.anywhere:
        # With the mirror above: a square's eight positions, each as often.
        if uniform(key, _FLIPPED) < 0.5:
            _flip(image)
        if uniform(key, _TRANSPOSED) < 0.5:
            _transpose(image)
    if recipe.shuffle_channels:
        _permute_channels(image, int(6 * uniform(key, _CHANNELS)))
    return DECODED


@jit
def decode(
    indices: np.ndarray,
    memory: Memory,
    metadata: np.ndarray,
    storage: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """Decode the pictures of a batch; releases the GIL.

    indices: int64 (n,), sample numbers.
    memory: (images uint8 (n, R, R, 3) and statuses uint8 (n,), both written; scratch uint8, room
    for the largest JPEG's pixels; recipe; keys uint64 (n,), see random_key).
    metadata: FFCV's records of the pictures. storage: (the file's bytes, allocated addresses in
    ascending order, their sizes).
    """
    images, statuses, scratch, recipe, keys = memory
    file, addresses, sizes = storage
    end = np.uint64(len(file))
    for n in range(len(indices)):
        sample = indices[n]
        record = metadata[sample]
        # As `read_headers` has checked already: numba's slices have no bounds, and one number that
        # slips through would read other memory.
        address = record["data_ptr"]
        found = np.searchsorted(addresses, address)
        if (
            found >= len(addresses)
            or addresses[found] != address
            or sizes[found] > end
            or address > end - sizes[found]
        ):
            statuses[n] = OUTSIDE
            continue
        first = np.int64(address)
        statuses[n] = _place(
            file[first : first + np.int64(sizes[found])],
            record["mode"] == JPEG,
            int(np.int64(record["height"])),
            int(np.int64(record["width"])),
            recipe,
            stream(keys[n], sample),
            scratch,
            images[n],
        )
    return images
