"""Examples in the README, the notebook and docstrings run as they are written."""

from __future__ import annotations

import doctest
import json
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from common.phantom import write_phantom
from tests.conftest import REPOSITORY
from tests.docs.pages import fenced

_NOTEBOOK = REPOSITORY / "docs" / "notebooks" / "python.ipynb"
_PROMPT = re.compile(r"^\s+>>> ", re.MULTILINE)


def _modules_with_examples() -> list[str]:
    paths = [path for path in (REPOSITORY / "common").rglob("*.py") if _PROMPT.search(path.read_text(encoding="utf-8"))]
    return sorted(".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in paths)


@pytest.fixture(scope="module")
def slide_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slide")
    write_phantom(folder, "slide", 1003, (768, 768), mpp=1.0)
    return folder


@pytest.fixture
def folder(slide_files, tmp_path, monkeypatch) -> Path:
    """The current folder: it holds ``slide.tif``, 768 µm a side, and its annotations."""
    folder = tmp_path / "here"
    shutil.copytree(slide_files, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("module", _modules_with_examples())
def test_examples_of_docstrings_give_what_they_say(module, folder):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    tried = doctest.testmod(import_module(module), optionflags=options, verbose=False)
    assert tried.attempted > 0
    assert tried.failed == 0


def test_the_example_of_the_readme_segments_a_slide(folder):
    (example,) = fenced(REPOSITORY / "README.md", "python")
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["patch"].shape == (9, 256, 256)
    assert {path.name for path in (folder / "segmented" / "slide").iterdir()} >= {"prediction.tif", "overlay.png"}
    assert names["summary"]["classes"]["stroma"]["share"] > 0.5


@pytest.mark.all
def test_the_notebook_runs():
    cells = json.loads(_NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names: dict = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{_NOTEBOOK.name}, cell {number}", "exec"), names)
    assert names["right"] > 0.9


def test_the_notebook_is_small():
    assert _NOTEBOOK.stat().st_size < 200_000
