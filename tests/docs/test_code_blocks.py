"""Every Python and shell block of the README and of the documentation, as a reader would run it.

Python blocks of a page run one after the other in one namespace, shell blocks one after the other in one folder, both
beside `examples/`, a `photo.jpg`, and folders of photos. `small.py` makes the commands small. A block that cannot run
here has `<!-- not run: REASON -->` above it, one that needs hardware `<!-- small: REASON -->`.
"""

import configparser
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from feat2img.cli import main, parse
from feat2img.training import DIFFUSION_PRESETS, GAN_PRESETS, parse_config

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).with_name("small.py")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "source").glob("*.md"))]
DIRECTIVES = re.compile(r"\{[\w-]+\}")  # of MyST: not code
MOST_NOT_RUN = 12
GIVEN = dict.fromkeys(
    ("evaluation.md", "hub.md"), ("out/gan", "out/diffusion")
)  # pipelines that a page takes for granted
PRELUDE = """
feat2img() {{ {python} {small} feat2img "$@"; }}
accelerate() {{ {python} {small} accelerate "$@"; }}
torchrun() {{ {python} {small} torchrun "$@"; }}
make() {{ command make -s -C {root} "$@" SPACE="$PWD/out/space"; }}
"""


class Block(NamedTuple):
    """A fenced block: where it stands, its language, its text, and what the comment above it says."""

    page: str
    line: int
    language: str
    text: str
    note: str

    @property
    def not_run(self) -> bool:
        return self.note.startswith("not run:")


def blocks_of(path: Path) -> list[Block]:
    blocks, fence, note = [], None, ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if fence is None and line.startswith("```"):
            fence = (number, line.strip("`").strip(), [])
        elif fence is not None and line.startswith("```"):
            blocks.append(Block(path.name, fence[0], fence[1], "\n".join(fence[2]) + "\n", note))
            fence, note = None, ""
        elif fence is not None:
            fence[2].append(line)
        elif line.strip():
            comment = re.fullmatch(r"<!-- (.*) -->", line.strip())
            note = comment.group(1) if comment else ""
    assert fence is None, f"{path}: the block of line {fence[0]} has no end"
    return blocks


BLOCKS = {path.name: blocks_of(path) for path in PAGES}


def pages_with(language: str) -> list[str]:
    return [name for name, blocks in BLOCKS.items() if any(b.language == language and not b.not_run for b in blocks)]


@pytest.fixture
def workshop(tmp_path, monkeypatch, save_some_photos) -> Path:
    """The folder that a reader works in: `examples/`, photos, and no cache of the user's."""
    folder = tmp_path / "workshop"
    for name in ("photos/train", "photos/validation", "my-photos", "folder-of-photos"):
        save_some_photos(folder / name, 8 if name != "folder-of-photos" else 2)
    Image.open(folder / "my-photos" / "photo00.png").save(folder / "photo.jpg")
    (folder / "DATA").symlink_to("photos")
    (folder / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    return folder


def test_every_block_is_run_or_says_why_not():
    blocks = [block for blocks in BLOCKS.values() for block in blocks]
    for block in blocks:
        where = f"{block.page}:{block.line}"
        known = block.language in ("python", "bash", "text") or DIRECTIVES.match(block.language)
        assert known, f"{where}: a block of {block.language or 'no language'}: use python, bash or text"
        if block.note.startswith(("not run", "small")):
            assert re.fullmatch(r"(not run|small): \w.{9,}", block.note), f"{where}: give a reason: {block.note}"
    assert len([block for block in blocks if block.not_run]) <= MOST_NOT_RUN
    assert len([block for block in blocks if block.language == "python" and not block.not_run]) >= 8


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_blocks_run(page, workshop):
    namespace: dict = {"__name__": "__main__"}
    for block in BLOCKS[page]:
        if block.language == "python" and not block.not_run:
            code = compile("\n" * block.line + block.text, block.page, "exec")  # errors name the page's line
            with contextlib.redirect_stdout(io.StringIO()):
                exec(code, namespace)


def commands_of(block: Block) -> list[list[str]]:
    """The words of each command; variables that the block sets are put in."""
    text = block.text.replace("\\\n", " ")
    variables = dict(re.findall(r'^(\w+)="([^"]*)"$', text, re.MULTILINE))
    text = re.sub(r'^\w+="[^"]*"$', "", text, flags=re.MULTILINE)
    for name, value in variables.items():
        text = text.replace(f"${name}", " ".join(value.split()))
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.split("#")[0].strip()]


def check_command(words: list[str], capsys) -> None:
    words = words[next(i for i, word in enumerate(words) if "=" not in word) :]  # without NAME=value in front
    if words[0] == "feat2img":
        parse(words[1:])
    elif words[0] == "torchrun" and "-m" in words:
        assert words[words.index("-m") + 1] == "feat2img.cli"
        parse(words[words.index("-m") + 2 :])
    elif words[0] in ("accelerate", "torchrun"):
        place = next(i for i, word in enumerate(words) if word.endswith(".py"))
        assert (ROOT / words[place]).is_file(), words[place]
        presets = GAN_PRESETS if "gan" in words[place] else DIFFUSION_PRESETS
        parse_config(presets, "", words[place + 1 :])
        if words[0] == "accelerate":
            from accelerate.commands.launch import launch_command_parser

            options = launch_command_parser().parse_args(words[2 : place + 1])
            assert options.config_file is None or (ROOT / options.config_file).is_file()
    elif words[0] == "make":
        target = [word for word in words[1:] if "=" not in word][0]
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    elif words[0] == "pip":
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        extras = re.search(r"\[(.*)\]", words[-1])
        assert set(extras.group(1).split(",") if extras else []) <= set(config["options.extras_require"])
    else:
        assert words[0] in ("hf", "python"), f"no rule for {words[0]}"


@pytest.mark.parametrize(
    "page", [name for name, blocks in BLOCKS.items() if any(b.language == "bash" for b in blocks)]
)
def test_shell_commands_are_understood(page, capsys):
    for block in BLOCKS[page]:
        if block.language == "bash":
            for words in commands_of(block):
                try:
                    check_command(words, capsys)
                except (SystemExit, ValueError) as error:
                    pytest.fail(f"{page}:{block.line}: {shlex.join(words)}: {capsys.readouterr().err or error}")


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("bash"))
def test_shell_blocks_run(page, workshop, make_gan, make_diffusion):
    blocks = [block for block in BLOCKS[page] if block.language == "bash" and not block.not_run]
    if any("feat2img app" in block.text for block in blocks):
        pytest.importorskip("gradio", reason="needs the package gradio")
    for name in GIVEN.get(page, ()):
        (make_gan if name.endswith("gan") else make_diffusion)().save_pretrained(workshop / name)
    prelude = PRELUDE.format(python=shlex.quote(sys.executable), small=SMALL, root=ROOT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "https_proxy": "http://127.0.0.1:9"}
    for block in blocks:
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", prelude + block.text],
            cwd=workshop, env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert result.returncode == 0, f"{page}:{block.line}\n{block.text}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr, result.stderr


def test_links_lead_to_files():
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (path.parent / target).exists(), f"{path.name}: there is no {target}"


def test_every_command_is_told_of():
    """Each subcommand stands in some page, and the help of each still works."""
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["--help"]) == 0
    for command in re.findall(r"^    (\w+) ", printed.getvalue(), re.MULTILINE):
        assert f"feat2img {command}" in text, command


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("furo", reason="needs sphinx and furo")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", ROOT / "docs" / "source", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (result.returncode, result.stderr) == (0, "")
    fetched = re.compile(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?|png|jpg|svg))"')
    for page in tmp_path.rglob("*.html"):
        assert fetched.findall(page.read_text(encoding="utf-8")) == [], f"{page.name} fetches something from elsewhere"


@pytest.mark.slow
def test_the_figures_can_be_drawn(tmp_path):
    pytest.importorskip("skimage", reason="one figure shows its photo")
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.svg"))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = tmp_path / "docs" / "figures.py"
    subprocess.run([sys.executable, script], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    drawn = {path.name for path in (tmp_path / "docs" / "source" / "figures").glob("*.svg")}
    assert drawn == {path.name for path in (ROOT / "docs" / "source" / "figures").glob("*.svg")}
