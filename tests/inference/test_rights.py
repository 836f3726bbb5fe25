"""Folders that may not be written to."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.inference.children import ended, last_line, segment, small_slide
from tests.inference.test_resume import contents

# Of linux/capability.h: rights by which root passes over those of files.
_VERSION, _OVERRIDES = 0x20080522, 1 << 1 | 1 << 2


def _as_an_ordinary_user() -> None:
    """Give up root's right to pass over the rights of files; what root owns, its owner may use."""
    if os.geteuid() != 0:
        return
    library = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    if library.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for number in range(2):
        sets[number] &= ~_OVERRIDES
    if library.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def _without_home() -> None:
    _as_an_ordinary_user()
    os.environ.update(HOME="/nowhere", XDG_CACHE_HOME="/nowhere", TMPDIR="/nowhere")


@pytest.fixture
def whole(tmp_path):
    """A slide in a folder that may not be written to, and its outputs."""
    folder = tmp_path / "slides"
    folder.mkdir()
    slide = small_slide(folder / "s.tif")
    folder.chmod(0o555)
    result = ended(tmp_path / "log", segment, slide, tmp_path / "whole", before=_without_home)
    yield SimpleNamespace(slide=slide, result=result, folder=tmp_path / "whole" / "s")
    folder.chmod(0o755)


def test_slides_are_read_where_nothing_may_be_written_and_without_a_home(whole):
    assert whole.result.code == 0, whole.result.said
    assert "summary.json" in contents(whole.folder)
    assert [path.name for path in whole.slide.parent.iterdir()] == ["s.tif"]


@pytest.mark.parametrize("locked", ["out", "out/s"])
def test_a_folder_for_outputs_that_may_not_be_written_to_is_one_line(whole, tmp_path, locked):
    out = tmp_path / "out"
    (out / "s").mkdir(parents=True)
    if locked == "out":
        (out / "s").rmdir()
    (tmp_path / locked).chmod(0o555)
    result = ended(tmp_path / "log", segment, whole.slide, out, before=_as_an_ordinary_user)
    (tmp_path / locked).chmod(0o755)
    assert result.code == 2, result.said
    assert "Traceback" not in result.said
    line = last_line(result.said)
    assert line.startswith(f"error: {out / 's'}")
    assert line.endswith("Permission denied. Choose another place, or ask for the right")
    assert not list(Path(out).glob("s/*"))
