from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from feat2img.data import ImageTransform, PhotoDataset, StreamedPhotoDataset, load_photos

IMAGENETTE = Path(__file__).resolve().parents[3] / "shared" / "imagenette"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets_cache"))
    # datasets 5 sleeps for five seconds when a stream is left early
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)


def save_photo(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return str(path)


def save_parquet(path, count, tmp_path, columns=("image", "label"), declared=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [save_photo(tmp_path / "files" / f"{i}.png", i) for i in range(count)]
    images = [{"bytes": Path(file).read_bytes(), "path": None} for file in files]
    image, label = columns
    names = [str(i) for i in range(20)]
    features = datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=names)})
    table = datasets.Dataset.from_dict({image: images, label: list(range(count))}, features)
    if declared:
        table.to_parquet(str(path))
    else:
        table.cast_column(image, datasets.Image(decode=False)).to_pandas().to_parquet(path)
    return path


def pixels_of(photos):
    return [PhotoDataset(photos, ImageTransform(16, 16))[i] for i in range(len(photos))]


@pytest.fixture
def parquet_folder(tmp_path):
    save_parquet(tmp_path / "set" / "train" / "0000.parquet", 6, tmp_path)
    save_parquet(tmp_path / "set" / "validation" / "0000.parquet", 3, tmp_path)
    return tmp_path / "set"


def test_parquet_folder_with_splits(parquet_folder):
    photos = load_photos(str(parquet_folder))
    assert photos.column_names == ["image", "label"] and len(photos) == 6
    assert photos[2]["image"]["bytes"].startswith(b"\x89PNG")
    assert [example["label"] for example in pixels_of(photos)] == [0, 1, 2, 3, 4, 5]
    assert len(load_photos(parquet_folder, "validation")) == 3
    assert len(load_photos(parquet_folder, "train[:2]")) == 2
    assert len(load_photos(parquet_folder / "validation" / "0000.parquet")) == 3


def test_relative_path_wins_over_a_name(parquet_folder, monkeypatch):
    monkeypatch.chdir(parquet_folder.parent)
    assert len(load_photos("set")) == 6
    assert len(load_photos("./set", "validation")) == 3


def test_flat_parquet_files(tmp_path):
    save_parquet(tmp_path / "one" / "data.parquet", 4, tmp_path)
    assert len(load_photos(tmp_path / "one")) == 4
    save_parquet(tmp_path / "two" / "train-00000-of-00001.parquet", 4, tmp_path)
    save_parquet(tmp_path / "two" / "validation-00000-of-00001.parquet", 2, tmp_path)
    assert len(load_photos(tmp_path / "two", "validation")) == 2


def test_columns_are_found_by_type_or_by_name(tmp_path):
    save_parquet(tmp_path / "set" / "a.parquet", 4, tmp_path, columns=("picture", "kind"))
    photos = load_photos(tmp_path / "set")
    assert photos.column_names == ["image", "label"] and photos[3]["label"] == 3
    same = load_photos(tmp_path / "set", image_column="picture", label_column="kind")
    assert same[3] == photos[3]
    with pytest.raises(ValueError, match="no column 'photo': its columns are picture, kind"):
        load_photos(tmp_path / "set", image_column="photo")
    with pytest.raises(ValueError, match="column 'kind' holds .*expected images"):
        load_photos(tmp_path / "set", image_column="kind")
    with pytest.raises(ValueError, match="no integer column 'picture'"):
        load_photos(tmp_path / "set", label_column="picture")


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet_of_other_writers(tmp_path, streaming):
    save_parquet(tmp_path / "set" / "a.parquet", 4, tmp_path, declared=False)
    photos = load_photos(tmp_path / "set", streaming=streaming)
    assert [row["label"] for row in photos] == [0, 1, 2, 3]
    assert next(iter(photos))["image"]["bytes"].startswith(b"\x89PNG")


def test_no_image_column(tmp_path):
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict({"text": ["a"], "number": [1]}).to_parquet(str(tmp_path / "set" / "a.parquet"))
    with pytest.raises(ValueError, match="no image column: its columns are text, number"):
        load_photos(tmp_path / "set")


@pytest.mark.parametrize("streaming", [False, True])
def test_class_folders_and_a_text_file_named_jpg(tmp_path, streaming):
    for i, name in enumerate(("cat/0.png", "cat/1.png", "dog/2.png")):
        save_photo(tmp_path / "set" / name, i)
    (tmp_path / "set" / "dog" / "text.jpg").write_text("not a photo")
    photos = load_photos(tmp_path / "set", streaming=streaming)
    kind = StreamedPhotoDataset if streaming else PhotoDataset
    dataset = kind(photos, ImageTransform(16, 16))
    examples = list(dataset) if streaming else [dataset[i] for i in range(len(dataset))]
    assert [example["label"] for example in examples if "label" in example] == [0, 0, 1]
    skipped = [example["skipped"] for example in examples if "skipped" in example]
    assert len(skipped) == 1 and skipped[0].name.endswith("dog/text.jpg")


def test_flat_image_folder_and_split_folders(tmp_path):
    for i in range(3):
        save_photo(tmp_path / "flat" / f"{i}.png", i)
    photos = load_photos(tmp_path / "flat")
    assert photos.column_names == ["image"] and [e["label"] for e in pixels_of(photos)] == [-1, -1, -1]
    for split, count in (("train", 2), ("validation", 1)):
        for i in range(count):
            save_photo(tmp_path / "split" / split / "cat" / f"{i}.png", i)
            save_photo(tmp_path / "split" / split / "dog" / f"{i}.png", i)
    assert len(load_photos(tmp_path / "split")) == 4
    assert [e["label"] for e in pixels_of(load_photos(tmp_path / "split", "validation"))] == [0, 1]


def test_num_images_mixes_and_repeats(tmp_path):
    save_parquet(tmp_path / "set" / "a.parquet", 12, tmp_path)
    folder = tmp_path / "set"
    labels = load_photos(folder, num_images=6)["label"][:]
    assert len(set(labels)) == 6 and labels != [0, 1, 2, 3, 4, 5]
    assert load_photos(folder, num_images=6)["label"][:] == labels
    assert load_photos(folder, num_images=6, seed=1)["label"][:] != labels
    assert load_photos(folder, num_images=6)._fingerprint == load_photos(folder, num_images=6)._fingerprint
    assert len(load_photos(folder, num_images=100)) == 12
    streamed = [row["label"] for row in load_photos(folder, num_images=6, streaming=True)]
    assert len(set(streamed)) == 6 and streamed != [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="num_images must be at least 1, got 0"):
        load_photos(folder, num_images=0)


def test_wrong_sources_give_one_clear_line(tmp_path, parquet_folder, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.parquet").write_text("text")
    photo = save_photo(tmp_path / "photo.png")
    for source, options, message in [
        ("./nowhere", {}, "there is no data set at ./nowhere"),
        (str(tmp_path / "nowhere"), {}, "there is no data set at"),
        (tmp_path / "empty", {}, "no photos in|is empty"),
        (tmp_path / "texts", {}, "no photos in|is empty"),
        (tmp_path / "broken", {}, "cannot load split 'train' of"),
        (photo, {}, "is a .png file: expected a folder"),
        (parquet_folder, {"split": "test"}, "has no split 'test': it has 'train', 'validation'"),
        ("frgfm/imagenette", {"size": "huge"}, "must be one of full_size, 320px, 160px, got 'huge'"),
        ("nobody/nothing", {}, "cannot load split 'train' of nobody/nothing"),
    ]:
        with pytest.raises(ValueError, match=message) as raised:
            load_photos(source, **options)
        assert "\n" not in str(raised.value)


def test_empty_table(tmp_path):
    save_parquet(tmp_path / "set" / "a.parquet", 0, tmp_path)
    with pytest.raises(ValueError, match="cannot load split 'train' of .*no data"):
        load_photos(tmp_path / "set")


def test_imagenette():
    if not IMAGENETTE.exists():
        pytest.skip("needs ImageNette's parquet files in ../shared/imagenette")
    photos = load_photos(IMAGENETTE, "validation", num_images=50)
    examples = pixels_of(photos)
    assert len({example["label"] for example in examples}) > 5
    pixels = PhotoDataset(photos, ImageTransform())[0]["pixel_values"]
    assert pixels.shape == (3, 224, 224) and -1 <= pixels.min() < -0.5 and 0.5 < pixels.max() <= 1
    assert len(list(load_photos(IMAGENETTE, "validation", num_images=5, streaming=True))) == 5
