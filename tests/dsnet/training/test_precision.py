"""bfloat16 is chosen by what the device has and the family is, not by a clock."""

import pytest

from dsnet.models.create import architecture
from dsnet.training.precision import pays_on_cpu


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_with_bfloat16_products_gains_on_dense_convolutions_alone(instruction: str) -> None:
    assert pays_on_cpu(architecture("ds_resnet50"), {instruction: True})
    assert not pays_on_cpu(architecture("ds_mbnet"), {instruction: True})


def test_a_cpu_without_gains_nowhere() -> None:
    has = {"avx2": True, "avx512_bf16": False, "amx_bf16": False}
    assert not pays_on_cpu(architecture("ds_resnet50"), has)
