import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import DDIMScheduler

from feat2img.pipelines.diffusion import denoise
from feat2img.training.diffusion import DenoisingOutput, DiffusionTask
from feat2img.training.examples import ExampleNoise
from feat2img.training.perceptual import EncoderPerceptualLoss

CONDITIONINGS = ["cross_attention", "concat", "both"]
PREDICTIONS = [("sample", True), ("sample", False), ("v_prediction", True), ("v_prediction", False)]
COARSE = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
PIXELS = F.interpolate(COARSE, (32, 32), mode="bilinear")


@pytest.fixture
def guess_path(make_gan, make_encoder, tmp_path):
    """A saved GAN pipeline for the encoder of `make_task`."""
    make_gan(make_encoder()).save_pretrained(tmp_path / "guess")
    return str(tmp_path / "guess")


def noise(batch=0):
    return ExampleNoise(0, (batch + 1) * len(PIXELS), len(PIXELS), torch.device("cpu"))


@pytest.fixture
def make_task(make_config, make_encoder):
    def make(gradient_accumulation_steps=1, **changes):
        encoder = make_encoder()
        accelerator = Accelerator(gradient_accumulation_steps=gradient_accumulation_steps)
        task = DiffusionTask(make_config("diffusion", **changes), encoder, accelerator)
        task.prepare()
        task.set_statistics([(encoder(PIXELS), PIXELS)])
        return task

    return make


def step(task, batch=0, progress=0.0):
    return task.step(PIXELS, task.encoder(PIXELS), noise(batch), progress)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("condition_dropout, first_guess", [(0.0, False), (0.5, False), (0.5, True)])
def test_gradients_reach_every_trainable_weight(make_task, guess_path, conditioning, condition_dropout, first_guess):
    """A trainable weight without a gradient would make DistributedDataParallel wait for it."""
    task = make_task(
        2,
        conditioning=conditioning,
        condition_dropout=condition_dropout,
        first_guess=guess_path if first_guess else None,
    )
    with task.accelerator.accumulate(task.decoder):
        logs = step(task)
    gradients = {name: value.grad for name, value in task.decoder.named_parameters() if value.requires_grad}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    assert torch.isfinite(logs["loss"]) and set(logs) == {"loss", "denoising_loss", "error"}
    # with a first guess the denoiser's last layer starts at zero and lets nothing through
    for part in ("unet.",) if first_guess else ("projector.stem.", "projector.blocks.", "unet."):
        assert sum(value.abs().sum() for name, value in gradients.items() if name.startswith(part)) > 0
    assert ("projector.null_feature" in gradients) == (condition_dropout > 0)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("first_guess", [False, True])
def test_each_conditioning_builds_what_it_needs(make_task, guess_path, conditioning, first_guess):
    task = make_task(conditioning=conditioning, first_guess=guess_path if first_guess else None)
    projector, unet = task.decoder.projector, task.decoder.unet
    map_and_guess = (0 if conditioning == "cross_attention" else 8) + (48 if first_guess else 0)
    assert unet.config.in_channels == 48 + map_and_guess
    assert (task.decoder.first_guess is not None) == first_guess
    assert (projector.to_tokens is None) == (conditioning == "concat")
    attends = any("attn2" in name for name, _ in unet.named_modules())
    assert attends == (conditioning != "concat")


@pytest.mark.parametrize("prediction_type, first_guess", PREDICTIONS)
def test_the_loss_by_hand(make_task, make_gan, guess_path, prediction_type, first_guess):
    options = {"prediction_type": prediction_type, "first_guess": guess_path if first_guess else None}
    task = make_task(loss_weighting="min_snr", condition_dropout=0.5, denoising_weight=2.0, **options)
    same = noise()
    gaussian, timesteps, uniform = same.normal((48, 8, 8)), same.integers(1000), same.uniform()
    drop = uniform < 0.5
    assert drop.any() and not drop.all()
    # linear betas rescaled to no signal at the end (Lin et al. 2023, algorithm 1)
    roots = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0).sqrt()
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    signal = roots[timesteps][:, None, None, None]
    sigma = (1 - signal**2).sqrt()
    clean = F.pixel_unshuffle(PIXELS, 4)
    with torch.no_grad():
        condition = task.decoder.projector(task.encoder(PIXELS), drop)
        gan = make_gan(task.encoder)
        guess = F.pixel_unshuffle(gan.generator(gan.projector(task.encoder(PIXELS)).map), 4) if first_guess else None
        diffused = (clean - guess) / 0.25 if first_guess else clean
        noisy = signal * diffused + sigma * gaussian
        prediction = denoise(task.decoder.unet, noisy, timesteps, condition, task.config.conditioning, guess)
    is_v = prediction_type == "v_prediction"
    target = signal * gaussian - sigma * diffused if is_v else diffused
    snr = (signal / sigma).flatten() ** 2
    weight = snr.clamp(max=5) / (snr + 1 if is_v else 1)
    error = (prediction - target).square().mean(dim=(1, 2, 3))
    logs = step(task)
    torch.testing.assert_close(logs["loss"], 2 * (weight * error).mean(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(logs["error"], error.mean(), rtol=1e-3, atol=1e-5)


def test_one_step_changes_all_trainable_weights_and_no_others(make_task):
    task = make_task(conditioning="cross_attention", condition_dropout=0.5)
    before = {name: value.detach().clone() for name, value in task.decoder.named_parameters()}
    encoder = task.encoder.weights_hash()
    for batch in range(2):  # the denoiser's last layer starts at zero and lets no gradient through
        step(task, batch)
    for name, value in task.decoder.named_parameters():
        assert torch.isfinite(value).all()
        assert torch.equal(value, before[name]) != value.requires_grad, name
    assert task.encoder.weights_hash() == encoder


def test_training_starts_from_the_first_guess_and_leaves_its_decoder(make_task, make_gan, guess_path):
    task = make_task(first_guess=guess_path)
    pipe = task.pipeline()
    pipe.set_progress_bar_config(disable=True)
    expected = make_gan(task.encoder)(images=PIXELS, output_type="pt").images
    images = pipe(images=PIXELS, num_inference_steps=3, output_type="pt").images
    torch.testing.assert_close(images, expected, rtol=1e-4, atol=1e-5)
    for batch in range(2):
        step(task, batch)
    torch.testing.assert_close(make_gan(task.encoder).generator.state_dict(), pipe.guess_generator.state_dict())
    assert not torch.equal(pipe(images=PIXELS, num_inference_steps=3, output_type="pt").images, images)


def test_an_export_does_not_tell_where_the_first_guess_lay(make_task, guess_path, tmp_path):
    make_task(first_guess=guess_path).pipeline().save_pretrained(tmp_path / "exported")
    written = list((tmp_path / "exported").rglob("*.json"))
    assert len(written) > 4 and not any(guess_path in path.read_text() for path in written)


def test_a_first_guess_comes_from_a_gan_pipeline(make_task, make_diffusion, tmp_path):
    make_diffusion().save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="holds a diffusion pipeline; a first guess comes from a GAN pipeline"):
        make_task(first_guess=str(tmp_path / "other"))


def test_the_step_depends_on_its_noise_alone(make_task):
    torch.manual_seed(1)
    first, second = make_task(), make_task()
    second.decoder.load_state_dict(first.decoder.state_dict())
    torch.manual_seed(2)
    logs = step(first)
    torch.manual_seed(3)
    assert torch.equal(step(second)["loss"], logs["loss"])
    assert not torch.equal(step(second, batch=1)["loss"], logs["loss"])


def test_training_lowers_the_error(make_task):
    task = make_task(learning_rate=1e-3, max_grad_norm=100.0)
    errors = [step(task)["error"].item() for _ in range(20)]
    assert errors[-1] < 0.8 * errors[0]


def test_ema_moves_towards_the_weights(make_task):
    task = make_task(learning_rate=1e-2, condition_dropout=0.5)
    start = [value.clone() for value in task.ema.shadow_params]
    for batch in range(3):
        step(task, batch)
        task.update_ema()
    moved = [not torch.equal(one, other) for one, other in zip(start, task.ema.shadow_params, strict=True)]
    behind = [
        not torch.equal(shadow, value)
        for shadow, value in zip(task.ema.shadow_params, task.decoder.parameters(), strict=True)
    ]
    expected = [value.requires_grad for value in task.decoder.parameters()]
    assert moved == behind == expected


@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_the_image_terms_count_conditioned_examples_at_low_noise(make_task, prediction_type):
    task = make_task(perceptual_weight=1.0, perceptual_max_timestep=300, prediction_type=prediction_type)
    clean = F.pixel_unshuffle(PIXELS, 4)
    timesteps = torch.tensor([299, 300, 10, 10])
    conditioned = torch.tensor([True, True, False, True])
    noisy = task.scheduler.add_noise(clean, torch.randn_like(clean), timesteps)
    predicted = clean + 0.2 * torch.randn_like(clean)
    prediction = predicted
    if prediction_type == "v_prediction":  # the v that implies the predicted image: (root * noisy - it) / sigma
        root = task.scheduler.alphas_cumprod[timesteps].sqrt()[:, None, None, None]
        prediction = (root * noisy - predicted) / (1 - root**2).sqrt()
    implied = task.implied_image(DenoisingOutput(prediction, clean, noisy, None), timesteps)
    torch.testing.assert_close(implied, F.pixel_shuffle(predicted, 4), rtol=1e-3, atol=1e-3)
    assert task.counting(timesteps, ~conditioned).tolist() == [0, 3]
    assert task.counting(timesteps, torch.tensor([True] * 4)).tolist() == [0]  # one stands in


def test_the_step_judges_the_counting_examples_alone(make_task):
    task = make_task(perceptual_weight=1.0, perceptual_max_timestep=680, condition_dropout=0.27)
    same = noise()
    gaussian, timesteps, drop = same.normal((48, 8, 8)), same.integers(1000), same.uniform() < 0.27
    counts = (timesteps < 680) & ~drop
    assert counts.tolist() == [False, True, True, False]  # one is dropped, one too noisy and dropped
    with torch.no_grad():
        clean = F.pixel_unshuffle(PIXELS, 4)
        output = task.decoder(clean, gaussian, timesteps, task.encoder(PIXELS), drop)
        images = F.pixel_shuffle(output.prediction, 4)  # "sample" predicts the clean image itself
        distances = EncoderPerceptualLoss(task.encoder)(images, PIXELS)
    torch.testing.assert_close(step(task)["perceptual_loss"], distances[counts].mean(), rtol=1e-3, atol=1e-4)


def test_training_may_begin_with_a_pipeline_and_another_first_guess(make_task, make_gan, guess_path, tmp_path):
    first = make_task(first_guess=guess_path)
    for batch in range(2):
        step(first, batch)
    first.pipeline().save_pretrained(tmp_path / "first")
    other = make_gan(first.encoder)
    with torch.no_grad():
        other.generator.last.bias += 0.5
    other.save_pretrained(tmp_path / "other")
    second = make_task(first_guess=str(tmp_path / "other"), init_from=str(tmp_path / "first"))
    torch.testing.assert_close(second.decoder.unet.state_dict(), first.decoder.unet.state_dict())
    torch.testing.assert_close(second.decoder.projector.state_dict(), first.decoder.projector.state_dict())
    features = first.encoder(PIXELS)
    torch.testing.assert_close(second.decoder.guess(features), first.decoder.guess(features) + 0.5)


def test_the_image_of_a_first_guess_is_the_sum(make_task, guess_path):
    task = make_task(first_guess=guess_path)
    residual, guess = torch.randn(2, 4, 48, 8, 8)
    implied = task.implied_image(DenoisingOutput(residual, None, None, guess), torch.tensor([999, 500, 10, 0]))
    torch.testing.assert_close(implied, F.pixel_shuffle(guess + 0.25 * residual, 4))


def test_the_perceptual_term_joins_the_loss(make_task):
    task = make_task(perceptual_weight=0.5, perceptual_max_timestep=1000)
    logs = step(task)
    assert logs["perceptual_loss"] > 0
    parts = logs["denoising_loss"] + 0.5 * logs["perceptual_loss"]
    torch.testing.assert_close(logs["loss"], parts)


def test_an_adversary_joins_the_loss_and_learns(make_task):
    options = {"discriminator_start": 0.0, "adversarial_start": 0.0, "perceptual_max_timestep": 1000}
    task = make_task(adversarial_weight=0.25, discriminator="feature", **options)
    before = {name: value.clone() for name, value in task.adversary.discriminator.named_parameters()}
    logs = step(task)
    torch.testing.assert_close(logs["loss"], logs["denoising_loss"] + 0.25 * logs["adversarial_loss"])
    assert logs["d_loss"] > 0 and 0 <= logs["d_accuracy"] <= 1
    for name, value in task.adversary.discriminator.named_parameters():
        assert torch.equal(value, before[name]) != value.requires_grad, name


@pytest.mark.parametrize("steps, expected", [(4, [249, 499, 749, 999]), (1, [999]), (3, [332, 666, 999])])
def test_a_few_steps_are_trained_where_the_sampler_takes_them(make_task, steps, expected):
    task = make_task(few_steps=steps)
    assert task.timesteps.tolist() == expected
    sampler = task.sampler()
    sampler.set_timesteps(steps)
    assert sampler.timesteps.tolist() == expected[::-1]


def test_all_timesteps_are_trained_by_default(make_task):
    assert make_task().timesteps.tolist() == list(range(1000))


def test_the_pipeline_samples_with_the_current_weights(make_task):
    task = make_task(conditioning="concat", prediction_type="v_prediction")
    pipe = task.pipeline()
    pipe.set_progress_bar_config(disable=True)
    assert isinstance(pipe.scheduler, DDIMScheduler)
    assert pipe.scheduler.config.prediction_type == "v_prediction" and pipe.scheduler.alphas_cumprod[-1] == 0
    assert pipe.config.num_inference_steps == task.config.num_inference_steps == 2

    def sample():
        generator = torch.Generator().manual_seed(0)
        return pipe(images=PIXELS, generator=generator, output_type="pt").images

    images = sample()
    assert images.shape == (4, 3, 32, 32) and torch.isfinite(images).all()
    assert pipe.unet is task.decoder.unet
    step(task)
    assert not torch.equal(sample(), images)


def test_gradient_checkpointing_changes_no_number(make_task):
    torch.manual_seed(1)
    plain = make_task(conditioning="concat")
    saving = make_task(conditioning="concat", gradient_checkpointing=True)
    saving.decoder.load_state_dict(plain.decoder.state_dict())
    assert torch.equal(step(plain)["loss"], step(saving)["loss"])
    for one, other in zip(plain.decoder.parameters(), saving.decoder.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_bfloat16_training_on_a_cpu_attends_by_plain_matrix_products(make_config, make_encoder):
    """The same numbers as PyTorch's fused attention, which is slow backward there."""
    processors, predictions = set(), []
    for mixed_precision in ("no", "bf16"):
        torch.manual_seed(0)
        task = DiffusionTask(make_config("diffusion"), make_encoder(), Accelerator(mixed_precision=mixed_precision))
        processors.add(tuple({type(processor).__name__ for processor in task.decoder.unet.attn_processors.values()}))
        patches = F.pixel_unshuffle(PIXELS, 4)
        predictions.append(task.decoder(patches, patches, torch.tensor([0, 9, 99, 999]), task.encoder(PIXELS)))
        AcceleratorState._reset_state(reset_partial_state=True)
    assert processors == {("AttnProcessor2_0",), ("AttnProcessor",)}
    torch.testing.assert_close(predictions[0].prediction, predictions[1].prediction, rtol=1e-4, atol=1e-5)
