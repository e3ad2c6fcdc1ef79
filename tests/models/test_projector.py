import numpy as np
import pytest
import torch

from feat2img.models import FeatureProjector


def make_projector(**options):
    torch.manual_seed(0)
    options = {
        "feature_channels": 6, "feature_size": (4, 4), "hidden_channels": 8, "num_blocks": 1, "map_channels": 5,
        "map_size": (4, 4), "token_dim": 12, **options,
    }  # fmt: skip
    projector = FeatureProjector(**options).eval()
    torch.nn.init.normal_(projector.null_feature)
    return projector


@pytest.mark.parametrize("normalization", ["channel", "log1p", "none"])
def test_normalization_equals_the_formula(normalization):
    projector = make_projector(normalization=normalization)
    features = torch.randn(2, 6, 4, 4) * 3 + 1
    mean, std = torch.randn(6), torch.rand(6) + 0.01
    projector.set_statistics(mean, std)
    expected = features.double().numpy()
    if normalization == "log1p":
        expected = np.log(1 + np.maximum(expected, 0))
    if normalization != "none":
        variance = std.double().numpy() ** 2
        expected = (expected - mean.numpy()[None, :, None, None]) / np.sqrt(variance + 1e-5)[None, :, None, None]
    np.testing.assert_allclose(projector.normalize(features).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_normalization_of_a_dead_channel_is_finite():
    projector = make_projector()
    projector.set_statistics(torch.zeros(6), torch.zeros(6))
    assert torch.isfinite(projector(torch.zeros(1, 6, 4, 4)).map).all()


@pytest.mark.parametrize(
    "feature_size, map_size",
    [((4, 4), (4, 4)), ((4, 4), (8, 8)), ((4, 4), (16, 16)), ((4, 4), (6, 6)), ((4, 4), (10, 10)), ((4, 4), (2, 2)),
     ((1, 1), (1, 1)), ((1, 1), (8, 8)), ((7, 7), (14, 14)), ((2, 4), (4, 8)), ((2, 4), (8, 8)), ((3, 2), (3, 2))],
)  # fmt: skip
def test_shapes(feature_size, map_size):
    projector = make_projector(feature_size=feature_size, map_size=map_size)
    output = projector(torch.randn(2, 6, *feature_size))
    assert output.map.shape == (2, 5, *map_size)
    assert output.tokens.shape == (2, feature_size[0] * feature_size[1], 12)
    assert torch.isfinite(output.map).all() and torch.isfinite(output.tokens).all()


def test_no_tokens_where_none_are_asked_for():
    output = make_projector(token_dim=None)(torch.randn(1, 6, 4, 4))
    assert output.tokens is None


@pytest.mark.parametrize("feature_size", [(4, 4), (2, 4), (4, 2)])
def test_positions_tell_the_cells_apart(feature_size):
    """Features that are the same in every cell still give every cell its own token, and its own place in the map."""
    projector = make_projector(feature_size=feature_size, map_size=feature_size)
    features = torch.randn(1, 6, 1, 1).expand(1, 6, *feature_size)
    output = projector(features)
    for cells in (output.tokens[0], output.map[0].flatten(1).T):
        distances = torch.cdist(cells, cells) + 10 * torch.eye(len(cells))
        assert distances.min() > 1e-3


def test_tokens_stand_in_reading_order():
    projector = make_projector(num_blocks=0)
    with torch.no_grad():
        projector.to_tokens.weight.zero_()
        projector.to_tokens.bias.zero_()
    tokens = projector(torch.zeros(1, 6, 4, 4)).tokens[0]
    torch.testing.assert_close(tokens, projector.positions(12).permute(1, 2, 0).reshape(16, 12).float())
    columns, rows = tokens.view(4, 4, 12)[..., :6], tokens.view(4, 4, 12)[..., 6:]
    assert torch.equal(columns[0], columns[3]) and torch.equal(rows[:, 0], rows[:, 3])
    assert not torch.equal(columns[:, 0], columns[:, 3]) and not torch.equal(rows[0], rows[3])


def test_without_blocks_a_cell_of_the_map_sees_its_own_feature_only():
    projector = make_projector(num_blocks=0)
    features = torch.randn(1, 6, 4, 4)
    changed = features.clone()
    changed[:, :, 1, 2] += 1
    difference = (projector(features).map - projector(changed).map).abs().sum(dim=1)[0]
    assert difference[1, 2] > 0 and (difference > 0).sum() == 1


def test_drop_replaces_the_condition_of_these_examples_only():
    projector = make_projector(map_size=(8, 8))
    features, other = torch.randn(3, 6, 4, 4), torch.randn(3, 6, 4, 4)
    drop = torch.tensor([False, True, False])
    full, dropped, dropped_other = projector(features), projector(features, drop), projector(other, drop)
    for name in ("map", "tokens"):
        whole, part, part_other = getattr(full, name), getattr(dropped, name), getattr(dropped_other, name)
        torch.testing.assert_close(part[[0, 2]], whole[[0, 2]])
        assert not torch.allclose(part[1], whole[1])
        torch.testing.assert_close(part[1], part_other[1])
        assert not torch.allclose(part[0], part_other[0])


def test_the_null_condition_is_learned():
    projector = make_projector()
    projector(torch.randn(2, 6, 4, 4), torch.tensor([True, False])).map.sum().backward()
    assert projector.null_feature.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 6, 4, 5), (6, 4, 4), (2, 6, 16), (2, 6, 2, 2)])
def test_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError) as error:
        make_projector()(torch.zeros(shape))
    assert str(shape) in str(error.value) and "(batch, 6, 4, 4)" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name, value", [("normalization", "batch"), ("hidden_channels", 10), ("token_dim", 10)])
def test_bad_options_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is .*{value}"):
        make_projector(**{name: value})


@pytest.mark.parametrize("normalization", ["channel", "log1p"])
def test_save_and_load(normalization, tmp_path):
    options = {"map_size": (8, 8), "encoder_fingerprint": [0.5, -1]}
    projector = make_projector(normalization=normalization, **options)
    projector.set_statistics(torch.randn(6), torch.rand(6))
    projector.save_pretrained(tmp_path)
    loaded = FeatureProjector.from_pretrained(tmp_path)
    features = torch.randn(2, 6, 4, 4)
    drop = torch.tensor([True, False])
    assert torch.equal(loaded(features, drop).map, projector(features, drop).map)
    assert torch.equal(loaded(features, drop).tokens, projector(features, drop).tokens)
    assert loaded.config.encoder_fingerprint == [0.5, -1] and loaded.config.normalization == normalization


def test_half_precision_keeps_its_type():
    projector = make_projector().to(torch.bfloat16)
    output = projector(torch.randn(1, 6, 4, 4))
    assert output.map.dtype == output.tokens.dtype == torch.bfloat16


def test_without_positions_equal_cells_stay_equal():
    projector = make_projector(num_blocks=0, use_positions=False)
    output = projector(torch.randn(1, 6, 1, 1).expand(1, 6, 4, 4))
    assert output.tokens.std(dim=1).max() < 1e-6 and output.map.std(dim=(2, 3)).max() < 1e-6
