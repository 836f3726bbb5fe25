"""Fitted scikit-learn estimators on disk, without pickle."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import skops.io

from ..files import atomic_write


def save_fitted(path: str | Path, content: dict[str, Any]) -> None:
    """Write a dictionary of fitted estimators, arrays and plain values atomically."""
    with atomic_write(path) as partial:
        skops.io.dump(content, partial)


def load_fitted(path: str | Path, kind: str) -> dict[str, Any]:
    """Read a file of :func:`save_fitted`. No code in the file is run.

    Args:
        path: path of the file.
        kind: the ``"kind"`` that its dictionary must have.

    Raises:
        ValueError: the file is missing, damaged, of another kind, or holds types that are not scikit-learn's.
    """
    if not Path(path).exists():
        raise ValueError(f"{path}: no such fitted model. Fit one first, or name an existing one")
    try:
        unknown = skops.io.get_untrusted_types(file=path)
        if unknown:
            raise ValueError(f"{path}: refused, it holds types that could run code ({', '.join(unknown)})")
        content = skops.io.load(path, trusted=[])
    except (zipfile.BadZipFile, KeyError, OSError, TypeError) as error:
        raise ValueError(f"{path}: not a fitted model of ours, or damaged ({error})") from error
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise ValueError(f"{path}: not a {kind}")
    return content
