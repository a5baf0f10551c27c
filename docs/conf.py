"""How Sphinx builds the documentation: `sphinx-build -W --keep-going -n docs docs/_build`."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated
from sphinx.application import Sphinx

from keras_lgmsnet.about import NOTICE, __version__

project = "keras_lgmsnet"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
smartquotes = False  # quotes are code's here
myst_heading_anchors = 4
html_theme = "pydata_sphinx_theme"
html_theme_options = {"announcement": NOTICE, "footer_start": [], "footer_end": []}
html_show_sourcelink = False

# Docstrings are Markdown but for their sections: single backticks are code.
default_role = "code"
napoleon_custom_sections = [("Call arguments", "params_style")]
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints = "signature"
# Types in signatures, among them other packages' and those of private modules.
nitpick_ignore_regex = [("py:.*", ".*")]


def fences_to_directives(app: Sphinx, what: str, name: str, *docstring: object) -> None:
    """Turn a docstring's fenced blocks into what reStructuredText has for them."""
    *_, lines = docstring
    assert isinstance(lines, list)
    text = re.sub(
        r"^( *)```(\w+)\n(.*?)^\1```$",
        lambda fence: _directive(*fence.groups()),
        "\n".join(lines),
        flags=re.MULTILINE | re.DOTALL,
    )
    lines[:] = text.split("\n")


def _directive(indent: str, language: str, code: str) -> str:
    # Further in than "Example:", which is a heading for napoleon only then.
    shifted = re.sub(r"^(?=.)", " " * 8, code, flags=re.MULTILINE)
    return f"{indent}    .. code-block:: {language}\n\n{shifted}"


def links_out_to_files(app: Sphinx, page: str, source: list[str]) -> None:
    """Let links out of this folder lead to copies of the files, which are no pages here."""
    out = "../" * (page.count("/") + 1)
    source[0] = source[0].replace(f"]({out}", f"](path:{out}")


def setup(app: Sphinx) -> None:
    """Write the generated pages, and read docstrings before napoleon does."""
    generated.write()
    app.connect("source-read", links_out_to_files)
    app.connect("autodoc-process-docstring", fences_to_directives, priority=400)
