import pytest
import torch
import torch.nn.functional as F

from feat2img.models.blocks import ResidualStack, ShuffleUpsample, group_count


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_shuffle_upsample_starts_as_nearest_neighbour(factor):
    torch.manual_seed(0)
    block = ShuffleUpsample(5, 3, factor)
    hidden = torch.randn(2, 5, 4, 6)
    # the independent half: one plain convolution with every factor^2-th filter, its pixels repeated
    small = F.conv2d(hidden, block.convolution.weight[:: factor**2], block.convolution.bias[:: factor**2], padding=1)
    expected = small.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    output = block(hidden)
    assert output.shape == (2, 3, 4 * factor, 6 * factor)
    torch.testing.assert_close(output, expected)
    assert small.std() > 0.1


def test_shuffle_upsample_can_learn_other_pixels():
    torch.manual_seed(0)
    block = ShuffleUpsample(2, 1, 2)
    block(torch.randn(1, 2, 3, 3))[..., ::2, ::2].sum().backward()
    gradient = block.convolution.weight.grad
    assert gradient[0].abs().sum() > 0 and gradient[1:].abs().sum() == 0


def test_residual_stack_keeps_the_shape():
    torch.manual_seed(0)
    hidden = torch.randn(2, 6, 3, 5)
    stack = ResidualStack(6, 2)
    assert stack(hidden).shape == hidden.shape and not torch.equal(stack(hidden), hidden)
    assert torch.equal(ResidualStack(6, 0)(hidden), hidden)


@pytest.mark.parametrize("channels, groups", [(1, 1), (6, 6), (32, 32), (48, 24), (100, 25), (37, 1), (256, 32)])
def test_group_count(channels, groups):
    assert group_count(channels) == groups
