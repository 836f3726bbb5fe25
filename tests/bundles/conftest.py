"""Slides that all bundles are tried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles.narrow import write_phantoms_for_all


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phantoms of 2,048 pixels a side and each bundle's datalist of them: see :func:`write_phantoms_for_all`."""
    return write_phantoms_for_all(tmp_path_factory.mktemp("phantoms"))
