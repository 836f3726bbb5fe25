"""Provide writable cache folders to third-party libraries."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

_VARIABLE = "CUPY_CACHE_DIR"


def use_writable_cache() -> None:
    """Give CuPy a temporary folder for compiled kernels if the home folder is not writable.

    zarr imports CuPy if it is installed, and CuPy creates its folder when it is imported, with or without a GPU. If it
    cannot, as for service accounts and in containers, no import succeeds.
    """
    if _VARIABLE in os.environ or importlib.util.find_spec("cupy") is None:
        return
    if _is_writable(Path("~/.cupy/kernel_cache").expanduser()):
        return
    folder = tempfile.mkdtemp(prefix="multimag-cupy-")
    os.environ[_VARIABLE] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _is_writable(folder: Path) -> bool:
    """Return whether a folder is writable, or can be created."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
