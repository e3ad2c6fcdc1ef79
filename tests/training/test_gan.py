import pytest
import torch
from accelerate import Accelerator
from torch.nn.functional import l1_loss

from feat2img.data import pixels_to_uint8, uint8_to_pixels
from feat2img.training.adversary import random_shift
from feat2img.training.examples import ExampleNoise
from feat2img.training.gan import GANTask
from feat2img.training.perceptual import EncoderPerceptualLoss

COARSE = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
PIXELS = torch.nn.functional.interpolate(COARSE, (32, 32), mode="bilinear")
NOISE = ExampleNoise(0, 0, 2, torch.device("cpu"))
SHIFT = torch.tensor([[1, 3], [0, 2]])


@pytest.fixture
def make_task(make_config, make_encoder):
    def make(gradient_accumulation_steps=1, **changes):
        encoder = make_encoder()
        accelerator = Accelerator(gradient_accumulation_steps=gradient_accumulation_steps)
        task = GANTask(make_config("gan", **changes), encoder, accelerator)
        task.prepare()
        task.set_statistics([(encoder(PIXELS), PIXELS)])
        return task

    return make


def generator_step(task):
    generated = task.decoder(task.encoder(PIXELS))
    return task.generator_step(PIXELS, generated, task.perceptual_maps(generated, PIXELS, 1.0), SHIFT, 1.0)


def discriminator_step(task, generated):
    return task.discriminator_step(PIXELS, generated, task.perceptual_maps(generated, PIXELS, 1.0), SHIFT, 1.0)


def cut(images):
    """What the adversary reads of them at SHIFT, counted out by hand."""
    return torch.stack([images[0, :, 1:29, 3:31], images[1, :, 0:28, 2:30]])


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module, before):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def trainable(module):
    return {name for name, value in module.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("discriminator", ["patch", "feature"])
def test_generator_step_changes_the_generator_alone(make_task, discriminator):
    task = make_task(discriminator=discriminator)
    judge = task.adversary.discriminator
    decoder, discriminator = weights(task.decoder), weights(judge)
    encoder = task.encoder.weights_hash()
    logs = generator_step(task)
    assert changed(task.decoder, decoder) == trainable(task.decoder)
    assert changed(judge, discriminator) == set()  # its power iteration's vectors too
    assert task.encoder.weights_hash() == encoder
    assert judge.training and all(weight.grad is None for weight in judge.parameters())
    assert {name.split(".")[0] for name, weight in judge.named_parameters() if not weight.requires_grad} <= {"mixers"}
    assert set(logs) == {"g_loss", "pixel_loss", "perceptual_loss", "adversarial_loss"}


@pytest.mark.parametrize("discriminator", ["patch", "feature"])
def test_discriminator_step_changes_the_discriminator_alone(make_task, discriminator):
    task = make_task(discriminator=discriminator)
    judge = task.adversary.discriminator
    decoder, discriminator = weights(task.decoder), weights(judge)
    logs = discriminator_step(task, task.decoder(task.encoder(PIXELS)))
    assert changed(task.decoder, decoder) == set()
    assert all(weight.grad is None for weight in task.decoder.parameters())
    assert changed(judge, discriminator) >= trainable(judge)
    assert set(logs) == {"d_loss", "d_accuracy_real", "d_accuracy_fake", "d_accuracy"}


def test_the_generators_loss_by_hand(make_task):
    task = make_task(pixel_weight=2.0, perceptual_weight=0.5, adversarial_weight=0.25)
    generated = task.decoder(task.encoder(PIXELS))
    with torch.no_grad():
        pixel = l1_loss(generated, PIXELS)
        perceptual = EncoderPerceptualLoss(task.encoder)(generated, PIXELS).mean()
        adversarial = -task.adversary.discriminator.eval()(cut(generated)).mean()
        task.adversary.discriminator.train()
    logs = generator_step(task)
    torch.testing.assert_close(logs["pixel_loss"], pixel)
    torch.testing.assert_close(logs["perceptual_loss"], perceptual)
    torch.testing.assert_close(logs["adversarial_loss"], adversarial)
    torch.testing.assert_close(logs["g_loss"], 2 * pixel + 0.5 * perceptual + 0.25 * adversarial)


def test_the_discriminator_sees_generated_images_as_eight_bit(make_task):
    """It must not tell them apart by the fractions that photos, being 8 bit, do not have."""
    task = make_task()
    seen = []
    task.adversary.discriminator.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    discriminator_step(task, torch.rand(2, 3, 32, 32) * 3 - 1.5)
    fake = seen[0][2:]
    assert torch.equal(seen[0][:2], cut(PIXELS))
    assert torch.equal(fake, uint8_to_pixels(pixels_to_uint8(fake))) and fake.abs().max() <= 1


def test_a_step_shifts_real_and_generated_images_alike(make_task):
    """A decoder that returns the photos shows the adversary the same pixels twice."""
    task = make_task(pixel_weight=1.0, perceptual_weight=0.0)
    photos = uint8_to_pixels(pixels_to_uint8(PIXELS))
    seen = []
    task.adversary.discriminator.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    for _ in range(4):
        task.discriminator_step(photos, photos, None, random_shift(NOISE), 1.0)
    assert all(torch.equal(*batch.chunk(2)) for batch in seen)


def test_gradients_are_finite_and_reach_every_weight(make_task):
    task = make_task(gradient_accumulation_steps=2)  # after the first half of a batch the gradients still lie there
    with task.accelerator.accumulate(*task.wrapped_models()):
        task.step(PIXELS, task.encoder(PIXELS), NOISE, progress=0.5)
    for module in (task.decoder, task.adversary.discriminator):
        gradients = {name: value.grad for name, value in module.named_parameters() if value.requires_grad}
        assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())
        zero = {name for name, gradient in gradients.items() if gradient.abs().sum() == 0}
        # while no logit has left the hinge, real and generated images pull the last bias equally
        assert zero <= {"layers.6.bias"}


def test_parts_begin_at_their_share_of_the_run(make_task):
    task = make_task(discriminator_start=0.4, adversarial_start=0.6)
    features = task.encoder(PIXELS)
    judge = task.adversary.discriminator
    before = weights(judge)
    assert set(task.step(PIXELS, features, NOISE, 0.39)) == {"g_loss", "pixel_loss", "perceptual_loss"}
    assert changed(judge, before) == set()
    logs = task.step(PIXELS, features, NOISE, 0.4)
    assert "d_loss" in logs and "adversarial_loss" not in logs
    logs = task.step(PIXELS, features, NOISE, 0.6)
    assert "d_loss" in logs and "adversarial_loss" in logs


def test_parts_without_weight_are_left_out(make_task):
    task = make_task(perceptual_weight=0.0, adversarial_weight=0.0)
    assert task.adversary is None and set(task.models()) == {"decoder"} and set(task.optimizers()) == {"optimizer"}
    logs = task.step(PIXELS, task.encoder(PIXELS), NOISE, 1.0)
    assert set(logs) == {"g_loss", "pixel_loss"} and logs["g_loss"] == logs["pixel_loss"]


def test_the_feature_discriminator_judges_what_the_perceptual_term_compares(make_task):
    task = make_task(discriminator="feature")
    generated = task.decoder(task.encoder(PIXELS)).detach()
    judge = task.adversary.discriminator.eval()
    with torch.no_grad():
        fakes, reals = EncoderPerceptualLoss(task.encoder).maps(generated, PIXELS)
        fake_logits = judge([torch.nn.functional.pixel_unshuffle(generated, 4), *fakes.values()])
        real_logits = judge([torch.nn.functional.pixel_unshuffle(PIXELS, 4), *reals.values()])
        pairs = list(zip(real_logits, fake_logits, strict=True))
        hinge = [(1 - r).relu().mean() + (1 + f).relu().mean() for r, f in pairs]
        maps = task.perceptual_maps(generated, PIXELS, 1.0)
        loss, logs = task.adversary.discriminator_loss(PIXELS, generated, maps)
        torch.testing.assert_close(loss, torch.stack(hinge).mean(), rtol=1e-2, atol=1e-3)  # pixels rounded to 8 bit
        right = [((r > 0).float().mean() + (f < 0).float().mean()) / 2 for r, f in pairs]
        assert logs["d_accuracy"] == pytest.approx(torch.stack(right).mean().item(), abs=0.02)
        expected = -torch.stack([f.mean() for f in fake_logits]).mean()
        torch.testing.assert_close(task.adversary.generator_loss(PIXELS, generated, maps), expected)


@pytest.mark.parametrize("discriminator", ["patch", "feature"])
def test_relativistic_losses_compare_real_and_generated(make_task, discriminator):
    task = make_task(discriminator=discriminator, adversarial_loss="relativistic", gradient_penalty=0.5)
    generated = task.decoder(task.encoder(PIXELS)).detach()
    maps = task.perceptual_maps(generated, PIXELS, 1.0)
    g_loss = task.adversary.generator_loss(PIXELS, generated, maps)
    d_loss, logs = task.adversary.discriminator_loss(PIXELS, generated, maps)
    d_loss.backward()
    judge = task.adversary.discriminator
    assert all(torch.isfinite(value.grad).all() for value in judge.parameters() if value.requires_grad)
    assert g_loss > 0 and logs["d_loss"] > 0 and logs["squared_gradient"] > 0
    torch.testing.assert_close(d_loss.detach(), logs["d_loss"] + 0.5 * logs["squared_gradient"])
    # softplus(a) - softplus(-a) = a: what one side wins the other loses
    judge.eval()
    with torch.no_grad():
        inputs = [task.adversary.inputs(*pair) for pair in ((PIXELS, maps[1]), (generated, maps[0]))]
        real, fake = (task.adversary.judge(judge, side) for side in inputs)
    gap = torch.stack([(r - f).mean() for r, f in zip(real, fake, strict=True)]).mean()
    d_logs = task.adversary.discriminator_loss(PIXELS, generated, maps)[1]
    torch.testing.assert_close(g_loss - d_logs["d_loss"], gap, rtol=2e-2, atol=2e-3)


def test_perceptual_layers_may_lie_behind_the_hooked_one(make_task):
    task = make_task(perceptual_layers=("layer1", "layer4"), encoder_random_weights=True)
    assert task.perceptual.encoder is not task.encoder and not task.encoder.has_layer("layer4")
    generated = task.decoder(task.encoder(PIXELS))
    assert set(task.perceptual_maps(generated, PIXELS, 0.0)[0]) == {"layer1", "layer4"}
    assert generator_step(task)["perceptual_loss"] > 0


@pytest.mark.parametrize("layers", [(), ("conv1", "layer1.0.bn1", "layer2")])
def test_the_perceptual_term_is_that_of_the_unchanged_network(make_config, make_encoder, layers):
    """Its normalisations are folded into convolutions: same distance, same gradient of the pixels."""
    encoder = make_encoder()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(0))
            module.running_var.fill_(0.5)
    task = GANTask(make_config("gan", perceptual_layers=layers), encoder, Accelerator())
    plain = EncoderPerceptualLoss(encoder, layers or encoder.feature_levels)
    found, expected = (pixels.requires_grad_() for pixels in (PIXELS.flip(0).clone(), PIXELS.flip(0).clone()))
    for loss, pixels in ((task.perceptual, found), (plain, expected)):
        loss(pixels, PIXELS).sum().backward()
    torch.testing.assert_close(task.perceptual(found, PIXELS), plain(expected, PIXELS), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-2, atol=1e-3 * float(expected.grad.abs().max()))
    norms = [
        sum(isinstance(m, torch.nn.BatchNorm2d) for m in loss.encoder.modules()) for loss in (task.perceptual, plain)
    ]
    assert norms[0] < norms[1]


def test_training_may_begin_with_the_weights_of_a_pipeline(make_task, tmp_path):
    first = make_task()
    first.step(PIXELS, first.encoder(PIXELS), NOISE, 0.5)
    first.pipeline().save_pretrained(tmp_path / "first")
    second = make_task(init_from=str(tmp_path / "first"))
    assert changed(second.decoder, weights(first.decoder)) == set()
    shadows = dict(zip(dict(second.decoder.named_parameters()), second.ema.shadow_params, strict=True))
    assert all(torch.equal(shadows[name], value) for name, value in first.decoder.named_parameters())
    with pytest.raises(ValueError, match="generator of .* has other shapes than this run's settings"):
        make_task(init_from=str(tmp_path / "first"), head_channels=4)
    for other, flag in ({"feature_normalization": "none"}, "channel"), ({"feature_positions": False}, "True"):
        (name,) = other
        with pytest.raises(ValueError, match=f"was trained with {name} {flag}, this run has"):
            make_task(init_from=str(tmp_path / "first"), **other)


def test_training_brings_the_image_nearer(make_task):
    task = make_task(learning_rate=3e-3, adversarial_weight=0.01)
    features = task.encoder(PIXELS)
    losses = [task.step(PIXELS, features, NOISE, 0.5)["pixel_loss"].item() for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]


def test_ema_follows_the_weights(make_task):
    task = make_task(learning_rate=1e-2)
    features = task.encoder(PIXELS)
    history = []
    for _ in range(3):
        task.step(PIXELS, features, NOISE, 0.5)
        task.update_ema()
        history.append([parameter.detach().clone() for parameter in task.decoder.parameters()])
    # decay min(0.999, (1 + n) / (10 + n)) at the n-th update, 0 at the first
    for shadow, first, second, third in zip(task.ema.shadow_params, *history, strict=True):
        expected = first
        for decay, new in ((2 / 11, second), (3 / 12, third)):
            expected = decay * expected + (1 - decay) * new
        torch.testing.assert_close(shadow, expected)


def test_without_ema(make_task):
    task = make_task(use_ema=False)
    task.update_ema()
    assert task.ema is None


def test_the_pipeline_holds_the_current_weights(make_task):
    task = make_task()
    images = task.pipeline()(images=PIXELS, output_type="pt").images
    with torch.no_grad():
        expected = (task.decoder(task.encoder(PIXELS)) + 1) / 2
    torch.testing.assert_close(images, expected.clamp(0, 1))
    task.step(PIXELS, task.encoder(PIXELS), NOISE, 0.5)
    assert not torch.equal(task.pipeline()(images=PIXELS, output_type="pt").images, images)


@pytest.mark.parametrize("normalization", ["channel", "log1p", "none"])
def test_statistics_are_those_of_the_normalised_features(make_task, normalization):
    task = make_task(feature_normalization=normalization)
    features = torch.randn(6, 48, 4, 4) * 2 + 1
    task.set_statistics([(features[:2], PIXELS[:2]), (features[2:], PIXELS[2:])])
    seen = torch.log1p(features.relu()) if normalization == "log1p" else features
    projector = task.decoder.projector
    torch.testing.assert_close(projector.feature_mean, seen.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(projector.feature_std, seen.std(dim=(0, 2, 3), correction=0), rtol=1e-2, atol=1e-2)
    if normalization != "none":
        normalized = projector.normalize(features)
        torch.testing.assert_close(normalized.mean(dim=(0, 2, 3)), torch.zeros(48), atol=1e-4, rtol=0)
        torch.testing.assert_close(normalized.std(dim=(0, 2, 3)), torch.ones(48), atol=2e-2, rtol=0)
