"""Pad reads that reach outside the slide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_CONSTANTS = {"white": 255, "black": 0}
_MIRRORED = ("reflect", "symmetric")
PAD_MODES = (*_CONSTANTS, *_MIRRORED)


def read_padded(
    read_inside: Callable[[int, int, int, int], np.ndarray],
    shape: tuple[int, int],
    top: int,
    left: int,
    height: int,
    width: int,
    mode: str,
) -> np.ndarray:
    """Read a rectangle that may lie partly or wholly outside ``shape``.

    Args:
        read_inside: ``(top, left, height, width) -> (height, width, c)`` for rectangles inside.
        shape: height and width of the image.
        top, left, height, width: the rectangle.
        mode: ``"white"``, ``"black"``, ``"reflect"`` (mirrored without the border pixel) or ``"symmetric"`` (mirrored
            with it).
    """
    rows, columns = shape
    if top >= 0 and left >= 0 and top + height <= rows and left + width <= columns:
        return read_inside(top, left, height, width)
    if mode in _CONSTANTS:
        return _read_with_constant(read_inside, shape, (top, left, height, width), _CONSTANTS[mode])
    row = _mirrored(np.arange(top, top + height), rows, mode)
    column = _mirrored(np.arange(left, left + width), columns, mode)
    first_row, first_column = int(row.min()), int(column.min())
    inside = read_inside(first_row, first_column, int(row.max()) - first_row + 1, int(column.max()) - first_column + 1)
    return inside[(row - first_row)[:, None], (column - first_column)[None, :]]


def _read_with_constant(
    read_inside: Callable[[int, int, int, int], np.ndarray],
    shape: tuple[int, int],
    rectangle: tuple[int, int, int, int],
    value: int,
) -> np.ndarray:
    top, left, height, width = rectangle
    first_row, first_column = max(top, 0), max(left, 0)
    last_row, last_column = min(top + height, shape[0]), min(left + width, shape[1])
    result = np.full((height, width, 3), value, dtype=np.uint8)
    if last_row > first_row and last_column > first_column:
        inside = read_inside(first_row, first_column, last_row - first_row, last_column - first_column)
        result[first_row - top : last_row - top, first_column - left : last_column - left] = inside
    return result


def _mirrored(index: np.ndarray, count: int, mode: str) -> np.ndarray:
    if mode == "symmetric":
        wrapped = index % (2 * count)
        return np.minimum(wrapped, 2 * count - 1 - wrapped)
    if count == 1:
        return np.zeros_like(index)
    wrapped = index % (2 * count - 2)
    return np.minimum(wrapped, 2 * count - 2 - wrapped)
