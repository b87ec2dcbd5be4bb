"""What a gate without attention sees."""

import pytest
import torch

from dsnet.nn.gate import TINY, Gate, moments


def test_moments_are_mean_and_root_mean_square_side_by_side() -> None:
    x = torch.tensor([[[[3.0, -3.0]], [[1.0, 7.0]], [[0.0, 0.0]]]])  # (1, 3, 1, 2)
    expected = [0.0, 3.0, 4.0, 5.0, 0.0, TINY**0.5]
    assert moments(x, 6)[0].tolist() == pytest.approx(expected, rel=1e-5)
    slim = moments(x[:, :2], 6)
    assert slim[0].tolist() == pytest.approx([*expected[:4], 0.0, 0.0], rel=1e-5)


def test_moments_of_nothing_have_a_slope() -> None:
    x = torch.zeros(1, 2, 4, 4, requires_grad=True)
    moments(x, 4).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_without_attention_noise_on_a_smooth_picture_is_seen() -> None:
    """Its average is the picture's own."""
    gate = Gate(2, routes=3, attends=False)
    torch.manual_seed(0)
    smooth = torch.full((1, 2, 64, 64), 0.5)
    x, seen = gate(torch.cat([smooth, smooth + 0.1 * torch.randn_like(smooth)]))
    assert x.shape == (2, 2, 64, 64) and seen.shape == (2, gate.features) == (2, 4)
    torch.testing.assert_close(seen[0, 0::2], seen[1, 0::2], rtol=0.02, atol=0)
    variance = seen.square()[:, 1::2] - seen[:, 0::2].square()
    torch.testing.assert_close(variance[1], torch.full((2,), 0.01), rtol=0.1, atol=0)
