"""Results that the tests of faults compare with."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.inference.children import BLOCKS, moments, small_slide
from tests.inference.test_resume import contents


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> SimpleNamespace:
    """A slide, which no test may change, the outputs of an undisturbed run, how many moments that has, and the bytes of
    each file of its maps and log."""
    folder = tmp_path_factory.mktemp("whole")
    slide = small_slide(folder / "s.tif")
    count, maps = moments(folder / "log", slide, folder / "out")
    assert len(maps) > 3 * BLOCKS
    return SimpleNamespace(slide=slide, outputs=contents(folder / "out" / "s"), moments=count, maps=maps)
