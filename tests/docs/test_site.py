"""The documentation as a site."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

_REFERENCE = REPOSITORY / "docs" / "reference"


def test_the_reference_has_a_page_for_every_room():
    rooms = {path.parent.name for path in (REPOSITORY / "common").glob("*/__init__.py")}
    # Commands have a page of their own; MONAI Label's app is started, not imported.
    assert rooms - {"cli", "label_app"} <= {path.stem for path in _REFERENCE.glob("*.md")}


@pytest.mark.all
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="needs the extra docs")
    pytest.importorskip("myst_nb", reason="needs the extra docs")
    command = [sys.executable, "-m", "sphinx", "-q", "--fail-on-warning", REPOSITORY / "docs", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
