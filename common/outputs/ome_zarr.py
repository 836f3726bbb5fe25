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
    """Write an OME-Zarr (version 0.5) image with one channel per class, 255 for a probability of 1, as a pyramid.

    Args:
        path: the folder, written whole.
        store: ``(C, height, width)``.
        mpp: µm per pixel.
        scheme: names and colours of the channels.
    """
    with atomic_write(path) as partial:
        group = zarr.create_group(store=str(partial))
        source: Any = store.array
        level, scale = 0, mpp
        datasets = []
        while True:
            source = _level(group, str(level), source, store, 2**level)
            # Places are those of pixels' centres.
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
    """One class's probability over the whole slide, from the coarsest level of the pyramid that is not coarser than
    ``mpp``, or the finest there is.

    Args:
        path: the folder that :func:`write_probabilities` wrote.
        name: the class.
        mpp: µm per pixel.

    Returns:
        ``(height, width)`` float32 from 0 to 1, and its µm per pixel.

    Raises:
        ValueError: no such probabilities, or none of that class.
    """
    try:
        group = zarr.open_group(str(path), mode="r")
        described: Any = group.attrs["ome"]
        channels = [channel["label"] for channel in described["omero"]["channels"]]
        levels = {
            float(level["coordinateTransformations"][0]["scale"][-1]): str(level["path"])
            for level in described["multiscales"][0]["datasets"]
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
    """Copy an array into the group, or, if ``factor`` is more than 1, its halves: means of four pixels, a last odd row
    or column left out. One of its pixels is then ``factor`` of the map's."""
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
            "label": tissue.name,
            "color": "{:02X}{:02X}{:02X}".format(*tissue.color),
            "active": True,
            "window": {"min": 0, "max": 255, "start": 0, "end": 255},
        }
        for tissue in scheme.classes
    ]
    multiscale = {"name": name, "axes": axes, "datasets": datasets, "type": "mean"}
    return {"version": VERSION, "multiscales": [multiscale], "omero": {"channels": channels}}
