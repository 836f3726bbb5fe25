"""What made an output."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..files import sha256

_LIBRARIES = (
    "monai",
    "torch",
    "numpy",
    "tifffile",
    "imagecodecs",
    "openslide-python",
    "openslide-bin",
    "zarr",
)


class Provenance:
    """Bundle and weights of a run.

    Args:
        bundle_root: folder of the bundle; its ``configs/metadata.json`` gives name and version.
        checkpoint: the weights' file.
    """

    def __init__(self, bundle_root: str | Path | None = None, checkpoint: str | Path | None = None) -> None:
        self.bundle_root = Path(bundle_root) if bundle_root is not None else None
        self.checkpoint = Path(checkpoint) if checkpoint is not None else None

    def record(self) -> dict[str, Any]:
        """As JSON holds it: bundle, weights' name and SHA-256, versions of the libraries."""
        record: dict[str, Any] = {"libraries": _versions(), "python": platform.python_version()}
        if self.bundle_root is not None:
            metadata = json.loads((self.bundle_root / "configs" / "metadata.json").read_text(encoding="utf-8"))
            record["bundle"] = {"name": metadata.get("name"), "version": metadata["version"]}
        if self.checkpoint is not None and self.checkpoint.exists():
            record["weights"] = {"file": self.checkpoint.name, "sha256": sha256(self.checkpoint)}
        return record


def _versions() -> dict[str, str]:
    found = {"multimag": __version__}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
