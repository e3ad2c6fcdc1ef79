import pytest
import torch
from accelerate import Accelerator

from feat2img import Feat2ImgPipeline
from feat2img.training import train
from feat2img.training.diffusion import DiffusionTask
from feat2img.training.gan import GANTask

# two layers of which a decoder knows one: what it reads is a linear function of what it is to read
KNOWN, BOTH = ("layer2",), ("layer1", "layer2")
COARSE = torch.rand(80, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
PIXELS = torch.nn.functional.interpolate(COARSE, (32, 32), mode="nearest")


@pytest.fixture
def make_task(make_config, make_encoder):
    def make(kind, layers, normalization="channel", **changes):
        encoder = make_encoder(layers=layers)
        config = make_config(
            kind, encoder="test_resnet", encoder_layers=layers, feature_normalization=normalization, **changes
        )
        task = (GANTask if kind == "gan" else DiffusionTask)(config, encoder, Accelerator())
        task.prepare()
        if not changes.get("init_from") or task.stitching is not None:
            parts = (PIXELS[start : start + 10] for start in range(0, len(PIXELS), 10))
            task.set_statistics((encoder(part).detach(), part) for part in parts)
        return task

    return make


def projected(task):
    with torch.no_grad():
        return task.decoder.projector(task.encoder(PIXELS))


@pytest.mark.parametrize("normalization", ["channel", "log1p", "none"])
def test_a_decoder_reads_features_that_contain_its_own(make_task, tmp_path, normalization):
    first = make_task("gan", KNOWN)
    first.pipeline().save_pretrained(tmp_path / "first")
    second = make_task("gan", BOTH, normalization, init_from=str(tmp_path / "first"))
    for name, value in first.decoder.generator.state_dict().items():
        assert torch.equal(second.decoder.generator.state_dict()[name], value)
    with torch.no_grad():
        images, expected = (task.decoder(task.encoder(PIXELS)) for task in (second, first))
    error = (images - expected).square().mean() / (expected - expected.mean(0)).square().mean()
    assert error < (0.02 if normalization != "log1p" else 0.3)  # which is no linear function of them
    shadows = dict(zip(dict(second.decoder.named_parameters()), second.ema.shadow_params, strict=True))
    assert torch.equal(shadows["projector.stem.weight"], second.decoder.projector.stem.weight)


def test_a_denoiser_s_map_and_tokens_stay(make_task, tmp_path):
    first = make_task("diffusion", KNOWN)
    first.pipeline().save_pretrained(tmp_path / "first")
    second = make_task("diffusion", BOTH, init_from=str(tmp_path / "first"))
    for found, expected in zip(vars(projected(second)).values(), vars(projected(first)).values(), strict=True):
        assert (found - expected).std() < 0.1 * expected.std()


def test_the_same_features_are_not_fitted_again(make_task, tmp_path):
    first = make_task("gan", KNOWN)
    first.pipeline().save_pretrained(tmp_path / "first")
    second = make_task("gan", KNOWN, init_from=str(tmp_path / "first"))
    assert second.stitching is None
    assert torch.equal(projected(second).map, projected(first).map)


def test_other_settings_are_refused(make_task, tmp_path):
    make_task("gan", KNOWN).pipeline().save_pretrained(tmp_path / "first")
    with pytest.raises(ValueError, match="projector of .* has other shapes than this run's settings"):
        make_task("gan", BOTH, init_from=str(tmp_path / "first"), projector_channels=16)
    with pytest.raises(ValueError, match="was trained with feature_positions True, this run has False"):
        make_task("gan", BOTH, init_from=str(tmp_path / "first"), feature_positions=False)


def test_a_run_without_steps_exports_what_was_fitted(make_config, photo_folder, tmp_path, capsys):
    common = dict(dataset_name=str(photo_folder), report_to="none", encoder="test_resnet", max_train_samples=8)
    common["max_train_steps"] = 0
    first = train(make_config("gan", encoder_layers=KNOWN, output_dir=str(tmp_path / "a"), **common))
    common |= {"init_from": str(first), "encoder_layers": BOTH, "output_dir": str(tmp_path / "b")}
    second = train(make_config("gan", **common))
    assert "reads other features: fitting its projector's first layer" in capsys.readouterr().out
    before, after = (Feat2ImgPipeline.from_pretrained(folder) for folder in (first, second))
    torch.testing.assert_close(after.generator.state_dict(), before.generator.state_dict(), atol=0, rtol=0)
    assert after.projector.config.feature_channels > before.projector.config.feature_channels
    assert after.projector.feature_std.min() >= 0 and not torch.equal(
        after.projector.feature_std, torch.ones_like(after.projector.feature_std)
    )
    common |= {"max_train_steps": 1, "resume_from_checkpoint": "latest", "learning_rate": 1e-9}
    assert train(make_config("gan", **common)) == second
    assert "fitting its projector" not in capsys.readouterr().out
    trained_on = Feat2ImgPipeline.from_pretrained(second)
    torch.testing.assert_close(trained_on.projector.state_dict(), after.projector.state_dict())
