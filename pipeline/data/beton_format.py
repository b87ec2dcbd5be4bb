"""A beton's layout in bytes, as FFCV writes it: to look at one takes no more than NumPy.

FFCV has all of it too, but importing that takes a second, which a chain whose data is there would
spend on a few records. A test holds the two equal.
"""

import numpy as np

CURRENT_VERSION = 2
HeaderType = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
FieldDescType = np.dtype(
    [("type_id", "<u1"), ("name", ("<u1", 16)), ("arguments", ("<u1", (1024,)))], align=True
)
ALLOC_TABLE_TYPE = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
PICTURE_TYPE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
JPEG, RAW = 0, 1  # modes of a picture
PAGE_SIZE = 8 * 2**20  # bytes; no picture has more, once encoded
LONGEST_SIDE = 65535  # pixels; FFCV stores sides in 16 bits

FIELDS = {"image": (2, "RGBImageField"), "label": (1, "IntField")}
"""The fields that this project's betons have, in order: FFCV's number and class for each."""
SAMPLE_TYPE = np.dtype([("", PICTURE_TYPE), ("", "<i8")], align=True)
METADATA_START = HeaderType.itemsize + len(FIELDS) * FieldDescType.itemsize
