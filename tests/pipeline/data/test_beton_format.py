"""The layout of a beton is FFCV's."""

from ffcv import types
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.rgb_image import IMAGE_MODES

from pipeline.data import beton_format


def test_the_layout_is_the_one_that_ffcv_reads_and_writes() -> None:
    for name in ("CURRENT_VERSION", "HeaderType", "FieldDescType", "ALLOC_TABLE_TYPE"):
        assert getattr(beton_format, name) == getattr(types, name)
    kinds = [types.TYPE_ID_HANDLER[number] for number, _ in beton_format.FIELDS.values()]
    assert kinds == [RGBImageField, IntField]
    assert [kind.__name__ for kind in kinds] == [name for _, name in beton_format.FIELDS.values()]
    sample = types.get_metadata_type([kind() for kind in kinds])
    assert sample == beton_format.SAMPLE_TYPE
    assert dict(IMAGE_MODES) == {"jpg": beton_format.JPEG, "raw": beton_format.RAW}
