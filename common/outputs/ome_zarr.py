"""Class probabilities as OME-Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from ..classes import ClassScheme
from ..files import atomic_write

if TYPE_CHECKING:
    from ..maps.store import MapStore

_CHUNK = 512
_SMALLEST = 1024
VERSION = "0.5"


def write_probabilities(path: Path, store: MapStore, mpp: float, scheme: ClassScheme) -> None:
    """Write an OME-Zarr (version 0.5) pyramid with one channel per class, 255 for a probability of 1.

    Args:
        path: path of the folder, which is written atomically.
        store: class probabilities, ``(C, height, width)`` uint8.
        mpp: µm per pixel of the finest level.
        scheme: names and colours of the channels.
    """
    with atomic_write(path) as partial:
        group = zarr.create_group(store=str(partial))
        source: Any = store.array
        level, scale = 0, mpp
        datasets = []
        while True:
            source = _level(group, str(level), source, store, 2**level)
            # Coordinates are those of pixel centres.
            shift = (scale - mpp) / 2
            transformations = [
                {"type": "scale", "scale": [1.0, scale, scale]},
                {"type": "translation", "translation": [0.0, shift, shift]},
            ]
            datasets.append({"path": str(level), "coordinateTransformations": transformations})
            if max(source.shape[1:]) <= _SMALLEST or min(source.shape[1:]) < 2:
                break
            level, scale = level + 1, scale * 2
        group.attrs["ome"] = _metadata(path.stem, datasets, scheme)


def read_probability(path: str | Path, name: str, mpp: float) -> tuple[np.ndarray, float]:
    """Return one class's probability over the whole slide.

    It is read from the coarsest level of the pyramid that is not coarser than ``mpp``, or else from the finest.

    Args:
        path: a folder that :func:`write_probabilities` wrote.
        name: name of the class.
        mpp: µm per pixel that suffice.

    Returns:
        ``(height, width)`` float32 from 0 to 1, and its µm per pixel.

    Raises:
        ValueError: the folder holds no probabilities, or none of that class.
    """
    try:
        group = zarr.open_group(str(path), mode="r")
        metadata: Any = group.attrs["ome"]
        channels = [channel["label"] for channel in metadata["omero"]["channels"]]
        levels = {
            float(level["coordinateTransformations"][0]["scale"][-1]): str(level["path"])
            for level in metadata["multiscales"][0]["datasets"]
        }
    except (FileNotFoundError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path}: no class probabilities. Segment with probabilities.zarr among the outputs"
        ) from error
    if name not in channels:
        raise ValueError(f"{path}: probabilities of {', '.join(channels)}, not of {name}")
    fitting = [scale for scale in levels if scale <= mpp * 1.001] or [min(levels)]
    array: Any = group[levels[max(fitting)]]
    return np.asarray(array[channels.index(name)], dtype=np.float32) / 255, max(fitting)


def _level(group: zarr.Group, name: str, source: Any, store: MapStore, factor: int) -> zarr.Array:
    """Write a level of the pyramid, ``factor`` pixels of the map to a pixel per side, and return it.

    With ``factor`` 1 it is a copy of ``source``. Otherwise each pixel is the mean of four of ``source``, the next finer
    level, whose last odd row or column is left out.
    """
    planes, height, width = source.shape
    halved = factor > 1
    shape = (planes, height // 2, width // 2) if halved else (planes, height, width)
    chunks = (1, _CHUNK, _CHUNK)
    target = group.create_array(name, shape=shape, chunks=chunks, dtype="uint8", dimension_names=("c", "y", "x"))
    side = 4 * _CHUNK
    for top in range(0, shape[1], side):
        for left in range(0, shape[2], side):
            at = (slice(top, min(top + side, shape[1])), slice(left, min(left + side, shape[2])))
            covered = [(part.stop - part.start) * factor for part in at]
            if not store.written(top * factor, left * factor, covered[0], covered[1]):
                continue
            if not halved:
                target[:, at[0], at[1]] = source[:, at[0], at[1]]
                continue
            pixels = np.asarray(source[:, 2 * at[0].start : 2 * at[0].stop, 2 * at[1].start : 2 * at[1].stop])
            fours = pixels.reshape(planes, at[0].stop - top, 2, at[1].stop - left, 2).sum(axis=(2, 4), dtype=np.uint16)
            target[:, at[0], at[1]] = ((fours + 2) // 4).astype(np.uint8)
    return target


def _metadata(name: str, datasets: list[dict[str, Any]], scheme: ClassScheme) -> dict[str, Any]:
    axes = [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    channels = [
        {
            "label": tissue_class.name,
            "color": "{:02X}{:02X}{:02X}".format(*tissue_class.color),
            "active": True,
            "window": {"min": 0, "max": 255, "start": 0, "end": 255},
        }
        for tissue_class in scheme.classes
    ]
    multiscale = {"name": name, "axes": axes, "datasets": datasets, "type": "mean"}
    return {"version": VERSION, "multiscales": [multiscale], "omero": {"channels": channels}}
