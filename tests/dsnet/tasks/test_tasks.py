"""Measures as people read them, and classification against its closed forms."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dsnet import InputError
from dsnet.tasks.measure import Measure
from dsnet.tasks.registry import CLASSIFICATION, TASKS, register
from tests.toy import Smoothing

SHARE = Measure("top1", "top-1", share=True)
PSNR = Measure("psnr", "PSNR", unit="dB")
ERROR = Measure("mae", "mean error", rises=False)


def test_values_and_differences_are_in_their_unit() -> None:
    assert (SHARE.text(0.98611), PSNR.text(31.416), ERROR.text(0.5)) == (
        "98.61%",
        "31.42 dB",
        "0.50",
    )
    assert (SHARE.difference(0.0031), PSNR.difference(-0.12)) == ("+0.31", "\N{MINUS SIGN}0.12")
    assert (SHARE.difference(-0.00001), SHARE.difference(0.0316, 1)) == ("±0.00", "+3.2")
    assert (SHARE.steps, PSNR.steps, ERROR.steps) == ("points", "dB", "")


@given(st.sampled_from([SHARE, PSNR, ERROR]), st.floats(0, 1), st.floats(0, 1))
def test_what_is_better_has_less_error(measure: Measure, one: float, other: float) -> None:
    better = one > other if measure.rises else one < other
    assert measure.of_error(measure.error(one)) == pytest.approx(one, abs=1e-12)
    if abs(one - other) > 1e-9:
        assert (measure.error(one) < measure.error(other)) == better


def test_classification_is_cross_entropy_and_its_measures_are_counts() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(64, 12), torch.randint(0, 12, (64,))
    log = logits.log_softmax(1)
    own = -log[torch.arange(64), labels]
    torch.testing.assert_close(CLASSIFICATION.loss(logits, labels), own)
    smooth = 0.9 * own - 0.1 * log.mean(1)
    torch.testing.assert_close(CLASSIFICATION.loss(logits, labels, 0.1), smooth)
    soft = CLASSIFICATION.soften(torch.randn(64, 12, requires_grad=True))
    assert not soft.requires_grad
    torch.testing.assert_close(CLASSIFICATION.distill(logits, soft), -(soft * log).sum(1))
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    measured = CLASSIFICATION.measure(logits, labels)
    assert torch.equal(measured["top1"], ranks == 0)
    assert torch.equal(measured["top5"], ranks < 5)
    half = logits.bfloat16()
    single = F.cross_entropy(half.float(), labels, reduction="none")
    torch.testing.assert_close(CLASSIFICATION.loss(half, labels), single)


@pytest.mark.parametrize("names", [(), ("loss",), ("a", "a"), ("top-1",)])
def test_measures_need_names_of_their_own(names: tuple[str, ...]) -> None:
    class Other(Smoothing):
        name = "other"
        measures = tuple(Measure(name, name) for name in names)

    with pytest.raises(InputError, match="different identifiers"):
        register(Other())
    assert "other" not in TASKS
