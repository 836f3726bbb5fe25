"""The documentation site: ``make docs`` builds it in ``docs/_build/html``. Warnings are errors there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from common import __version__  # noqa: E402
from common.__main__ import COMMANDS  # noqa: E402
from common.cli.dispatch import PROGRAM, load  # noqa: E402
from common.cli.help import command_help  # noqa: E402

project = "MultiMag"
author = copyright = "The MultiMag contributors"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"MultiMag {__version__}"
html_theme_options = {"navigation_with_keys": True}

myst_heading_anchors = 4
# The tests execute the notebook; the site shows it as it is stored.
nb_execution_mode = "off"

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
# A section of the networks' docstrings: prose, no list of parameters.
napoleon_custom_sections = ["Shape"]
napoleon_use_ivar = True


def command_reference() -> str:
    """Return the help of every command, a section each."""
    lines: list[str] = []
    for group, members in COMMANDS.items():
        lines += [f"## {group.capitalize()}", ""]
        for name, place in members.items():
            text = command_help(load(place), f"{PROGRAM} {name}")
            lines += [f"### {name}", "", "```text", text, "```", ""]
    return "\n".join(lines)


def _add_commands(app: Any, docname: str, source: list[str]) -> None:
    if docname == "commands":
        source[0] += command_reference()


def setup(app: Any) -> None:
    """Register what this project adds to Sphinx."""
    app.connect("source-read", _add_commands)
