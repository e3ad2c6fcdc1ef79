import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

CONDITIONINGS = ["cross_attention", "concat", "both"]
SCHEDULERS = [DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler]


def features_for(pipe, count=2):
    torch.manual_seed(1)
    return pipe.encode(torch.rand(count, 3, 32, 32) * 2 - 1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def run(pipe, features, steps=2, seed=0, **options):
    options = {"num_inference_steps": steps, "generator": seeded(seed), "output_type": "pt", **options}
    return pipe(features=features, **options).images


def predict_constant(pipe) -> torch.Tensor:
    """Make the denoiser answer the same clean image whatever it sees; returns that image as pixels (3, 32, 32)."""
    patches = torch.rand(48) * 1.8 - 0.9
    with torch.no_grad():
        pipe.unet.conv_out.weight.zero_()
        pipe.unet.conv_out.bias.copy_(patches)
    return F.pixel_shuffle(patches.view(48, 1, 1).expand(48, 8, 8), 4)


def count_denoiser_calls(pipe) -> list[int]:
    """A list that grows by the batch size of every call of the denoiser."""
    sizes: list[int] = []
    pipe.unet.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    return sizes


def test_a_call_without_steps_takes_the_pipeline_s_own_number(make_diffusion):
    pipe = make_diffusion()
    assert pipe.config.num_inference_steps == 25
    pipe.register_to_config(num_inference_steps=3)
    calls = count_denoiser_calls(pipe)
    assert torch.equal(run(pipe, features_for(pipe), steps=None), run(pipe, features_for(pipe), steps=3))
    assert calls == [2] * 6


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_conditionings(make_diffusion, conditioning):
    """Each one paints, and each one reads its features."""
    pipe = make_diffusion(conditioning)
    features = features_for(pipe)
    images = run(pipe, features)
    assert images.shape == (2, 3, 32, 32) and torch.isfinite(images).all()
    assert not torch.allclose(run(pipe, features.flip(0)), images, atol=1e-3)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_one_guided_step_equals_the_combination_by_hand(make_diffusion, conditioning):
    """From pure noise (no signal at the last timestep) the clean image is -v; one step ends there."""
    pipe = make_diffusion(conditioning)
    features = features_for(pipe)
    noise = torch.randn(2, 48, 8, 8, generator=seeded())
    velocities = []
    with torch.no_grad():
        for drop in (torch.tensor([False, False]), torch.tensor([True, True])):
            condition = pipe.projector(features, drop)
            noisy = noise if conditioning == "cross_attention" else torch.cat([noise, condition.map], dim=1)
            velocities.append(pipe.unet(noisy, 999, encoder_hidden_states=condition.tokens).sample)
    conditional, unconditional = velocities
    assert not torch.allclose(conditional, unconditional, atol=1e-3)
    for scale in (1.0, 2.5, 0.0):
        velocity = unconditional + scale * (conditional - unconditional)
        expected = (F.pixel_shuffle(-velocity, 4) + 1) / 2
        images = run(pipe, features, steps=1, guidance_scale=scale)
        torch.testing.assert_close(images, expected.clamp(0, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_the_denoiser_sees_the_first_guess_and_adds_to_it(make_diffusion, conditioning, prediction_type):
    pipe = make_diffusion(conditioning, prediction_type, first_guess=True)
    features = features_for(pipe)
    noise = torch.randn(2, 48, 8, 8, generator=seeded())
    with torch.no_grad():
        condition = pipe.projector(features)
        maps = [] if conditioning == "cross_attention" else [condition.map]
        guess = F.pixel_unshuffle(pipe.guess_generator(pipe.guess_projector(features).map), 4)
        added = pipe.unet(torch.cat([noise, *maps, guess], dim=1), 999, encoder_hidden_states=condition.tokens).sample
    residual = (added if prediction_type == "sample" else -added).clamp(-1, 1)  # as the scheduler clips it
    expected = (F.pixel_shuffle(guess + 0.25 * residual, 4) + 1) / 2
    torch.testing.assert_close(run(pipe, features, steps=1), expected.clamp(0, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_a_denoiser_with_nothing_to_add_leaves_the_first_guess(make_diffusion, guidance_scale):
    pipe = make_diffusion("both", "sample", first_guess=True)
    with torch.no_grad():
        pipe.unet.conv_out.weight.zero_()
        pipe.unet.conv_out.bias.zero_()
        features = features_for(pipe)
        expected = pipe.guess_generator(pipe.guess_projector(features).map)
    images = run(pipe, features, steps=5, guidance_scale=guidance_scale)
    torch.testing.assert_close(images, ((expected + 1) / 2).clamp(0, 1), atol=1e-5, rtol=1e-5)


def test_half_a_first_guess_is_refused(make_diffusion):
    pipe = make_diffusion(first_guess=True)
    components = {**pipe.components, "guess_generator": None}
    with pytest.raises(ValueError, match="needs both guess_projector and guess_generator"):
        type(pipe)(**components)


@pytest.mark.parametrize("first_guess", [False, True])
def test_save_load_equal(make_diffusion, tmp_path, first_guess):
    pipe = make_diffusion(first_guess=first_guess)
    pipe.save_pretrained(tmp_path)
    loaded = type(pipe).from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    features = features_for(pipe)
    assert torch.equal(run(loaded, features), run(pipe, features))


def test_guidance_doubles_the_batch(make_diffusion):
    pipe = make_diffusion()
    features = features_for(pipe)
    sizes = count_denoiser_calls(pipe)
    run(pipe, features, steps=3)
    assert sizes == [2, 2, 2]
    sizes.clear()
    run(pipe, features, steps=3, guidance_scale=2.0)
    assert sizes == [4, 4, 4]


def test_samples_per_feature_stand_next_to_each_other(make_diffusion):
    pipe = make_diffusion()
    features = features_for(pipe)
    generators = [seeded(seed) for seed in range(6)]
    images = run(pipe, features, num_images_per_feature=3, generator=generators, guidance_scale=1.5)
    repeated = features[[0, 0, 0, 1, 1, 1]]
    expected = run(pipe, repeated, generator=[seeded(seed) for seed in range(6)], guidance_scale=1.5)
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(images[0], images[1], atol=1e-3)


def test_the_seed_decides(make_diffusion):
    pipe = make_diffusion()
    features = features_for(pipe)
    images = run(pipe, features, seed=3)
    torch.randn(100)
    assert torch.equal(images, run(pipe, features, seed=3))
    assert not torch.allclose(images, run(pipe, features, seed=4), atol=1e-3)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 4])
def test_scheduler_swap(make_diffusion, scheduler, steps):
    pipe = make_diffusion()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    images = run(pipe, features_for(pipe), steps)
    assert images.shape == (2, 3, 32, 32) and torch.isfinite(images).all() and images.std() > 0.01


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_every_scheduler_ends_at_the_answer_of_a_sure_denoiser(make_diffusion, scheduler, steps, guidance_scale):
    pipe = make_diffusion("concat", "sample")
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    clean = predict_constant(pipe)
    images = run(pipe, features_for(pipe), steps, guidance_scale=guidance_scale)
    torch.testing.assert_close(images, ((clean + 1) / 2).expand(2, 3, 32, 32), atol=1e-4, rtol=0)


def test_eta_adds_noise(make_diffusion):
    pipe = make_diffusion()
    features = features_for(pipe)
    images = run(pipe, features, steps=3, eta=1.0)
    assert torch.isfinite(images).all()
    assert not torch.allclose(images, run(pipe, features, steps=3), atol=1e-3)
    assert torch.equal(images, run(pipe, features, steps=3, eta=1.0))
    # at eta 1 DDIM is DDPM (Song et al. 2021, section 4.1)
    pipe.scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    torch.testing.assert_close(images, run(pipe, features, steps=3), atol=0.01, rtol=0)


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan")])
def test_bad_eta_is_refused(make_diffusion, eta):
    with pytest.raises(ValueError, match=f"eta is {eta}; expected a number from 0 to 1"):
        make_diffusion()(features=torch.zeros(1, 48, 4, 4), eta=eta)


def test_the_callback_sees_every_step_and_may_change_it(make_diffusion):
    pipe = make_diffusion()
    features = features_for(pipe)
    seen = []

    def watch(pipeline, step, timestep, tensors):
        assert pipeline is pipe
        seen.append((step, int(timestep), tensors["latents"].clone()))
        return {}

    images = run(pipe, features, steps=4, callback_on_step_end=watch)
    assert [step for step, *_ in seen] == [0, 1, 2, 3]
    assert [timestep for _, timestep, _ in seen] == [999, 749, 499, 249]
    last = F.pixel_shuffle(seen[-1][2], 4)
    torch.testing.assert_close(images, ((last + 1) / 2).clamp(0, 1))
    assert torch.equal(images, run(pipe, features, steps=4, callback_on_step_end=lambda *_: None))

    black = run(pipe, features, callback_on_step_end=lambda p, i, t, tensors: {"latents": -torch.ones(2, 48, 8, 8)})
    assert black.abs().max() == 0


@pytest.mark.parametrize("steps", [0, -3, 2.5, "4"])
def test_bad_step_counts_are_refused(make_diffusion, steps):
    pipe = make_diffusion()
    with pytest.raises(ValueError, match=f"num_inference_steps is {steps}; expected a whole number from 1"):
        pipe(features=torch.zeros(1, 48, 4, 4), num_inference_steps=steps)


def test_unknown_conditioning_is_refused(make_diffusion):
    pipe = make_diffusion()
    with pytest.raises(ValueError, match="conditioning is 'tokens'; choose one of cross_attention, concat, both"):
        type(pipe)(**pipe.components, conditioning="tokens")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_float_types(make_diffusion, dtype):
    pipe = make_diffusion()
    features = features_for(pipe)
    expected = run(pipe, features)
    for component in (pipe.encoder, pipe.projector, pipe.unet):
        torch.nn.Module.to(component, dtype)
    images = run(pipe, features)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, expected, atol=0.1, rtol=0)


def test_reference_slice(make_diffusion):
    pipe = make_diffusion()
    features = torch.linspace(-1, 1, 2 * 48 * 4 * 4).view(2, 48, 4, 4)
    images = run(pipe, features, steps=3, guidance_scale=1.5)
    expected = torch.tensor(REFERENCE)
    torch.testing.assert_close(images[0, 0, 3::12, 3::12].flatten(), expected, atol=1e-4, rtol=0)


REFERENCE = [0.3088, 0.4116, 0.4908, 0.1297, 0.3972, 0.1434, 0.586, 0.0061, 0.149]
