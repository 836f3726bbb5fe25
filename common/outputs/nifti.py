"""Label maps as NIfTI, for tools that read volumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OutputError
from ..files import atomic_write

if TYPE_CHECKING:
    from ..maps.store import MapStore

# Pixels. nibabel compresses one array in memory.
_LARGEST = 2**32


def check_nifti(path: Path, shape: tuple[int, int]) -> None:
    """Raise :class:`OutputError` if a label map is too large to build the file in memory."""
    if shape[0] * shape[1] > _LARGEST:
        problem = f"{path}: a label map of {shape[0]} x {shape[1]} pixels is too large for NIfTI"
        raise OutputError(f"{problem}; use prediction.tif")


def write_nifti(path: Path, store: MapStore, mpp: float) -> None:
    """Write the label map as one NIfTI slice ``(width, height, 1)``.

    The affine is in mm; the slide's x runs to the patient's left, y to the back.

    Args:
        path: path of the file, which is written atomically.
        store: the label map.
        mpp: µm per pixel of the label map.

    Raises:
        OutputError: the map is too large to build the file in memory.
    """
    import nibabel

    check_nifti(path, store.shape)
    labels = np.concatenate(list(store.bands(store.chunk))).T[..., None]
    mm = mpp / 1000
    affine = np.diag([-mm, -mm, 1.0, 1.0])
    affine[:2, 3] = -mm / 2
    kind = nibabel.Nifti1Image if max(labels.shape) < 2**15 else nibabel.Nifti2Image
    image = kind(np.ascontiguousarray(labels), affine)
    image.header.set_xyzt_units("mm")
    with atomic_write(path) as partial:
        nibabel.save(image, partial)
