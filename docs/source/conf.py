"""Sphinx: Markdown pages through MyST, the reference from docstrings. For `make docs` every warning is an error."""

import re

import feat2img

project = "feat2img"
author = "The feat2img contributors"
copyright = author
release = version = feat2img.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = []

# Markdown
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# The reference. Docstrings write code as `code`, as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_mock_imports = ["gradio"]
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Every reference to something of this package must resolve; other packages' pages would need a network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!feat2img\.).*"),
    ("py:class", r"feat2img\.training\.presets\.Config"),  # a type variable, which has no page
]

# The look
html_theme = "furo"
html_title = "feat2img"
html_static_path = ["_static"]
html_css_files = ["feat2img.css"]
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b6b5f",
        "color-brand-content": "#0b6b5f",
        "font-stack": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif",
        "font-stack--monospace": "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace",
    },
    "dark_css_variables": {"color-brand-primary": "#5fd6c2", "color-brand-content": "#5fd6c2"},
}
copybutton_prompt_text = "$ "


def keep_bars(app, what, name, obj, options, lines: list[str]) -> None:
    """|x| outside of code is a length, as in mathematics; reStructuredText would look for a substitution."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`[^`]*`)", line)
        lines[number] = "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in parts)


def setup(app) -> None:
    app.connect("autodoc-process-docstring", keep_bars)
