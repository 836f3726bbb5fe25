"""Provenance of an output: bundle, weights and libraries."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..files import sha256
from ..networks.checkpoint_metadata import read_checkpoint_metadata

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
        bundle_root: folder of the bundle, whose ``configs/metadata.json`` holds its name and version.
        checkpoint: file of the weights.
    """

    def __init__(self, bundle_root: str | Path | None = None, checkpoint: str | Path | None = None) -> None:
        self.bundle_root = Path(bundle_root) if bundle_root is not None else None
        self.checkpoint = Path(checkpoint) if checkpoint is not None else None
        self._known: tuple[tuple[int, int], dict[str, Any]] | None = None

    def record(self) -> dict[str, Any]:
        """Return bundle, weights (file name, SHA-256, training data) and library versions, as JSON holds them.

        ``weights_note`` is a sentence for the reader of the results; it is absent if nothing is known of the training.

        Raises:
            ValueError: the JSON file next to the checkpoint is damaged.
        """
        record: dict[str, Any] = {"libraries": _versions(), "python": platform.python_version()}
        if self.bundle_root is not None:
            metadata = json.loads((self.bundle_root / "configs" / "metadata.json").read_text(encoding="utf-8"))
            record["bundle"] = {"name": metadata.get("name"), "version": metadata["version"]}
        if self.checkpoint is not None and self.checkpoint.exists():
            record |= self._weights(self.checkpoint)
        return record

    def _weights(self, checkpoint: Path) -> dict[str, Any]:
        """Return the entries of the weights, read once per run: the file may be large, and one warning is enough."""
        file = checkpoint.stat()
        state = (file.st_mtime_ns, file.st_size)
        if self._known is None or self._known[0] != state:
            digest = sha256(checkpoint)
            metadata = read_checkpoint_metadata(checkpoint, digest)
            found: dict[str, Any] = {"weights": {"file": checkpoint.name, "sha256": digest}}
            if metadata is not None:
                found["weights"] |= metadata.facts()
            if metadata is not None and metadata.note is not None:
                found["weights_note"] = metadata.note
            self._known = (state, found)
        return self._known[1]


def _versions() -> dict[str, str]:
    found = {"multimag": __version__}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
