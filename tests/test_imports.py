"""The one-direction rule: data -> features -> models -> pipelines; training and evaluation above; the app above
evaluation; the command line on top, imported by nothing."""

import ast
from pathlib import Path

import pytest

import feat2img

PACKAGE = Path(feat2img.__file__).parent
CHAIN = ["data", "features", "models", "pipelines"]
ALLOWED = {
    **{name: set(CHAIN[: index + 1]) for index, name in enumerate(CHAIN)},
    "training": {*CHAIN, "training", "memory"},
    "evaluation": {*CHAIN, "evaluation"},
    "app": {*CHAIN, "evaluation", "app"},
}
# The exception that the design names: training may log metrics.
EXCEPTIONS = {("training", "evaluation.metrics")}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported_modules(path: Path, package: Path = PACKAGE) -> set[str]:
    """Dotted names below feat2img that a file imports, anywhere in it, as "data.photos"; "" is feat2img itself."""
    where = ["feat2img", *path.relative_to(package).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = where[: len(where) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x` may name modules; `from .x import y` names what lies in one
            found |= {f"{source}.{alias.name}" for alias in node.names} if not node.module else {source}
    own = {name for name in found if name.split(".")[0] == "feat2img" and name != "feat2img.__version__"}
    return {name.removeprefix("feat2img").removeprefix(".") for name in own}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imported_modules(path):
        assert name.split(".")[0] != "cli" or own == "__main__", f"{path} imports the command line"
        assert name.split(".")[0] != "commands" or own in ("cli", "commands"), f"{path} imports a command"
        if own in ALLOWED:
            allowed = name.split(".")[0] in ALLOWED[own] or (own, name) in EXCEPTIONS
            assert allowed, f"{path} imports feat2img.{name}"


def test_every_folder_has_its_rule():
    folders = {path.relative_to(PACKAGE).parts[0] for path in MODULES if path.parent != PACKAGE}
    assert folders == {*ALLOWED, "commands"}


def test_the_reader_sees_every_kind_of_import(tmp_path):
    path = tmp_path / "models" / "x.py"
    path.parent.mkdir()
    path.write_text(
        "import torch, feat2img.cli\nfrom .. import __version__\nfrom ..data import a\n"
        "from .blocks import b\nfrom . import c\n"
        "def f():\n    from ..evaluation.metrics import psnr\n    from feat2img.training import train\n"
    )
    expected = {"cli", "data", "models.blocks", "models.c", "evaluation.metrics", "training"}
    assert imported_modules(path, tmp_path) == expected
