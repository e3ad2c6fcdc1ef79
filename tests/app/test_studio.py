"""What the app does without its page, with tiny pipelines of random weights."""

import numpy as np
import pytest
from PIL import Image

from feat2img.app import Studio, default_pipelines
from feat2img.app.cards import ms, render_results


@pytest.fixture(scope="module")
def paths(tmp_path_factory, make_gan, make_diffusion) -> list[str]:
    folder = tmp_path_factory.mktemp("pipelines")
    make_gan().save_pretrained(folder / "gan")
    make_diffusion().save_pretrained(folder / "diffusion")
    return [str(folder / "gan"), str(folder / "diffusion")]


@pytest.fixture(scope="module")
def studio(paths) -> Studio:
    return Studio(paths, device="cpu")


@pytest.fixture
def photo(tmp_path, photos) -> str:
    photos[0].save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def test_every_decoder_answers_and_sampling_ones_as_often_as_asked(studio, photo):
    told = []
    results = list(
        studio.reconstruct(
            photo, studio.names, 3, num_samples=2, progress=lambda share, text: told.append((share, text))
        )
    )
    titles = [result.title for result in results]
    assert titles == ["gan, 1 pass", "diffusion, 3 steps, sample 1", "diffusion, 3 steps, sample 2"]
    assert all(result.original.size == result.image.size == (32, 32) for result in results)
    assert all(result.decode_ms > 0 and result.encode_ms > 0 for result in results)
    assert np.any(np.asarray(results[1].image) != np.asarray(results[2].image))
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert told[-1][1] == "diffusion: step 3 of 3"


def test_scores_are_those_of_the_images_shown(studio, photo):
    result = next(studio.reconstruct(photo, ["gan"]))
    difference = np.asarray(result.image, dtype=float) - np.asarray(result.original, dtype=float)
    assert result.scores["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean(difference**2)), abs=1e-3)
    gan = studio.pipelines["gan"]
    again, first = (gan.encode(image).flatten() for image in (result.image, result.original))
    assert result.scores["feature_cosine"] == pytest.approx(
        float(again @ first / again.norm() / first.norm()), abs=1e-4
    )
    assert result.share_kept == pytest.approx(first.numel() / (3 * 32 * 32))
    assert result.feature_shape == tuple(gan.encoder.feature_shape)


def test_the_same_seed_gives_the_same_image(studio, photo):
    images = [np.asarray(next(studio.reconstruct(photo, ["diffusion"], 2, seed=seed)).image) for seed in (0, 0, 1)]
    assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])


def test_bad_input_is_one_line(studio, photo, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    for call, message in [
        (lambda: studio.check(tmp_path / "broken.jpg"), "broken.jpg cannot be read: not an image file"),
        (lambda: next(studio.reconstruct(photo, [])), "choose at least one decoder"),
        (lambda: next(studio.reconstruct(photo, ["vae"])), "no decoder 'vae': choose from gan, diffusion"),
        (lambda: Studio([]), "no pipeline was named"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_the_quickstart_pair_is_found_from_anywhere_and_its_absence_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [path.rsplit("/", 1)[-1] for path in default_pipelines()] == ["gan", "diffusion"]
    monkeypatch.setattr("feat2img.app.studio.QUICKSTART", ("nowhere/gan",))
    with pytest.raises(ValueError, match="name one or more pipelines"):
        default_pipelines()


def test_cards_show_the_figures_and_nothing_is_taken_for_html(studio, photo):
    results = list(studio.reconstruct(photo, studio.names, 1))
    page = render_results(results, "<no weights>")
    assert page.count("<figure") == 3 and page.count("data:image/png") == 3
    assert f"{results[0].scores['psnr']:.2f} dB" in page and "&lt;no weights&gt;" in page
    assert page.count("f2i-best") >= 2  # one for each metric


@pytest.mark.parametrize("time, text", [(0.26, "0.3 ms"), (9.96, "10 ms"), (120.4, "120 ms"), (1500, "1.5 s")])
def test_times_as_people_read_them(time, text):
    assert ms(time) == text


def test_a_photo_of_another_kind_is_read(studio, tmp_path):
    Image.new("CMYK", (40, 50), (10, 20, 30, 40)).save(tmp_path / "print.tif")
    assert next(studio.reconstruct(tmp_path / "print.tif", ["gan"])).image.size == (32, 32)
