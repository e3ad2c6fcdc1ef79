import pytest
import torch

from feat2img.features import ChannelStatistics


def test_equals_numpy_over_uneven_batches():
    torch.manual_seed(0)
    features = 1000 + torch.randn(11, 5, 3, 4)  # a large mean loses digits in naive sums
    statistics = ChannelStatistics()
    for part in (features[:1], features[1:8], features[8:8], features[8:]):
        statistics.update(part)
    expected = features.double().numpy()
    assert statistics.mean.numpy() == pytest.approx(expected.mean(axis=(0, 2, 3)), rel=1e-12)
    assert statistics.std.numpy() == pytest.approx(expected.std(axis=(0, 2, 3)), rel=1e-9)
    assert statistics.count == 11 * 3 * 4


def test_refuses_other_channels_and_no_features():
    statistics = ChannelStatistics()
    with pytest.raises(ValueError, match="no statistics yet"):
        _ = statistics.mean
    statistics.update(torch.ones(1, 5, 2, 2))
    with pytest.raises(ValueError, match=r"expected features \(B, 5, h, w\), got \(1, 4, 2, 2\)"):
        statistics.update(torch.ones(1, 4, 2, 2))
