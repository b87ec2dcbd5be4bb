"""A beton's headers, held to bounds before anything trusts them: FFCV's reader trusts them all.

A beton is FFCV's header, a description of each field, one record per sample, the pictures from the
next page on, and a table of their places at the very end. What `ingest` writes is one form of it,
so nearly every number is known beforehand.
"""

from pathlib import Path

import numpy as np

from dsnet.errors import InputError
from pipeline.data.beton_format import (
    ALLOC_TABLE_TYPE,
    CURRENT_VERSION,
    FIELDS,
    JPEG,
    METADATA_START,
    PAGE_SIZE,
    RAW,
    SAMPLE_TYPE,
    FieldDescType,
    HeaderType,
)

MOST_PIXELS = 2**29 // 3  # of one picture, 512 MiB decoded; Pillow opens no larger ones either


def read_headers(
    beton: Path, samples: int, *, size: int, classes: int, max_height: int, max_width: int
) -> np.ndarray:
    """FFCV's record of every sample, (samples,): f0 is the picture's, f1 the label.

    Every number in them is within bounds: a label is one of the classes, a picture lies inside the
    file where the table says, apart from the others, and its sides are at most the largest.

    The numbers are the manifest's: pictures, bytes, classes, and the largest sides in pixels.

    Raises InputError, naming file, sample and number, where one is not.
    """
    table = size - samples * ALLOC_TABLE_TYPE.itemsize
    first = METADATA_START + samples * SAMPLE_TYPE.itemsize
    if first > table:  # nothing is read, or memory reserved, for samples that cannot be there
        least = first + size - table
        raise _refusal(beton, f"at least {least} bytes for {samples} samples", size)
    _check_file_header(beton, samples, table)
    records = np.fromfile(beton, SAMPLE_TYPE, samples, offset=METADATA_START)
    places = np.fromfile(beton, ALLOC_TABLE_TYPE, samples, offset=table)
    if len(records) < samples or len(places) < samples:
        raise _refusal(beton, f"{size} bytes", "fewer")
    _check(beton, "sample_id", places["sample_id"], *(2 * [np.arange(samples, dtype=np.uint64)]))
    _check(beton, "size", places["size"], 1, PAGE_SIZE)
    _check(beton, "data_ptr", places["ptr"], first, table - 1)
    length, address = places["size"].astype(np.int64), places["ptr"].astype(np.int64)
    free = np.append(first, address[:-1] + length[:-1])  # the end of the picture before
    _check(beton, "data_ptr", address, free, table - length)
    pictures = records["f0"]
    _check(beton, "data_ptr", pictures["data_ptr"], places["ptr"], places["ptr"])
    _check(beton, "mode", pictures["mode"], min(JPEG, RAW), max(JPEG, RAW))
    _check(beton, "width", pictures["width"], 1, max_width)
    _check(beton, "height", pictures["height"], 1, max_height)
    pixels = picture_pixels(pictures)
    _check(beton, "pixels", pixels, 1, MOST_PIXELS)
    stored = np.where(pictures["mode"] == RAW, 3 * pixels, length)
    _check(beton, "size", length, stored, stored)
    _check(beton, "label", records["f1"], 0, classes - 1)
    return records


def picture_pixels(pictures: np.ndarray) -> np.ndarray:
    """Pixels of each picture, int64, from FFCV's records of them."""
    pixels: np.ndarray = pictures["height"].astype(np.int64) * pictures["width"]
    return pixels


def _check_file_header(beton: Path, samples: int, table: int) -> None:
    (header,) = np.fromfile(beton, HeaderType, 1)
    for name, expected in (
        ("version", CURRENT_VERSION),
        ("num_fields", len(FIELDS)),
        ("page_size", PAGE_SIZE),
        ("num_samples", samples),
        ("alloc_table_ptr", table),
    ):
        if header[name] != expected:
            raise _refusal(beton, str(expected), header[name], f", header, {name}")
    fields = np.fromfile(beton, FieldDescType, len(FIELDS), offset=HeaderType.itemsize)
    for field, (name, (number, kind)) in zip(fields, FIELDS.items(), strict=True):
        if (bytes(field["name"]).rstrip(b"\0"), field["type_id"]) != (name.encode(), number):
            raise _refusal(beton, f"{name} of type {kind}", "another", ", header, field")


def _check(
    beton: Path, what: str, found: np.ndarray, least: int | np.ndarray, most: int | np.ndarray
) -> None:
    """Hold one number of every sample to its bounds, both included."""
    wrong = np.flatnonzero((found < least) | (found > most))
    if len(wrong):
        number = wrong[0]
        low, high = (np.broadcast_to(bound, found.shape)[number] for bound in (least, most))
        expected = str(low) if low == high else f"{low} to {high}"
        raise _refusal(beton, expected, found[number], f", sample {number}, {what}")


def _refusal(beton: Path, expected: str, found: object, where: str = "") -> InputError:
    return InputError(
        f"{beton}{where}: expected {expected}, found {found}; the file is damaged: run "
        "`dsnet ingest` again"
    )
