from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feat2img.data import SkippedPhoto
from feat2img.evaluation.reconstruct import find_photos, output_stems, reconstruct_photos

SIZE = 32  # of the tiny pipelines, in pixels


def test_reconstruction_is_what_the_pipeline_makes_of_the_photo(tmp_path, save_photos, make_gan):
    save_photos(tmp_path, 3, seed=0, size=50)
    paths = find_photos([tmp_path])
    pipeline = make_gan()
    results = dict(reconstruct_photos(pipeline, paths, batch_size=2))
    assert sorted(results) == [0, 1, 2]
    expected = np.asarray(pipeline(images=Image.open(paths[1])).images[0])
    assert np.abs(np.asarray(results[1].image).astype(int) - expected).max() <= 1
    assert results[1].path == paths[1] and results[1].original.size == (SIZE, SIZE)
    pair = results[1].side_by_side("gan")
    assert pair.width > 2 * SIZE and pair.height > SIZE


def test_a_bad_photo_is_named_and_the_others_go_on(tmp_path, save_photos, make_gan):
    save_photos(tmp_path, 2, seed=0)
    (tmp_path / "text.jpg").write_text("not a photo")
    paths = [tmp_path / "photo00.png", tmp_path / "text.jpg", tmp_path / "missing.png", tmp_path / "photo01.png"]
    results = dict(reconstruct_photos(make_gan(), paths, batch_size=4))
    assert [isinstance(results[i], SkippedPhoto) for i in range(4)] == [False, True, True, False]
    assert results[3].path == paths[3]


def test_noise_does_not_depend_on_the_batch(tmp_path, save_photos, make_diffusion):
    save_photos(tmp_path, 3, seed=0)
    pipeline = make_diffusion()
    runs = [
        dict(reconstruct_photos(pipeline, find_photos([tmp_path]), batch_size=size, seed=3, num_inference_steps=2))
        for size in (1, 3)
    ]
    for index in range(3):
        a, b = (np.asarray(run[index].image).astype(int) for run in runs)
        assert np.abs(a - b).max() <= 1  # float32 convolutions of another batch size


def test_folders_give_their_image_files_sorted_once(tmp_path, save_photos):
    save_photos(tmp_path, 2, seed=0)
    (tmp_path / "notes.txt").write_text("")
    first, second = tmp_path / "photo00.png", tmp_path / "photo01.png"
    assert find_photos([second, tmp_path]) == [second, first]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no image files"):
        find_photos([tmp_path / "empty"])


def test_results_never_share_a_file_nor_overwrite_a_photo(tmp_path):
    photos = [Path("a/cat.jpg"), Path("b/cat.png"), Path("cat_side_by_side.jpg"), Path("dog.jpg")]
    assert output_stems(photos, tmp_path) == ["cat", "cat-2", "cat_side_by_side-2", "dog"]
    with pytest.raises(ValueError, match="would overwrite.*choose another output_dir"):
        output_stems([tmp_path / "cat.png"], tmp_path)
    assert output_stems([tmp_path / "cat.jpg"], tmp_path) == ["cat"]
