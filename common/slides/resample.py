"""Resample pixels separably, one axis at a time.

Along an axis the output is ``start`` and ``step`` in source pixels: output pixel ``i`` covers
``[start + i·step, start + (i + 1)·step)``. Every function depends on those absolute positions only, never on
the number of pixels read, so that one large read equals many small ones bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

# Positions are rounded to 1/4096 of a source pixel. Area weights are then multiples of 2^-12, and sums of products
# of two of them with 8-bit values are exact in float64: the result cannot depend on the order of summation.
_SUBPIXEL = 4096


@dataclass(frozen=True)
class Axis:
    """The source pixels that the output needs along one axis, and the weights that combine them.

    Attributes:
        first, last: range ``[first, last)`` of source pixels.
        weights: ``(outputs, last - first)``, or None where the output is the source pixels themselves or means of
            ``block`` of them.
        block: source pixels per output pixel where ``weights`` is None.
    """

    first: int
    last: int
    weights: sparse.csr_matrix | None
    block: int = 1


def quantise(position: np.ndarray | float) -> np.ndarray:
    """Round positions to 1/4096 of a pixel."""
    return np.floor(np.asarray(position, dtype=np.float64) * _SUBPIXEL + 0.5) / _SUBPIXEL


def area_axis(start: float, step: float, count: int) -> Axis:
    """Return the weights that average by area; ``step >= 1``."""
    edges = quantise(start + np.arange(count + 1) * step)
    block = round(step)
    if block >= 1 and np.array_equal(edges, np.round(edges[0]) + np.arange(count + 1) * block):
        return Axis(int(edges[0]), int(edges[-1]), None, block)
    first, last = int(np.floor(edges[0])), int(np.ceil(edges[-1]))
    low, high = edges[:-1], edges[1:]
    taps = int(np.max(np.ceil(high) - np.floor(low)))
    pixel = np.floor(low)[:, None] + np.arange(taps)
    cover = np.clip(np.minimum(pixel + 1, high[:, None]) - np.maximum(pixel, low[:, None]), 0, None)
    return Axis(first, last, _matrix(pixel - first, cover, last - first))


def stride_axis(start: float, step: float, count: int) -> Axis:
    """Return the weights of decimation: the first source pixel of each output pixel, as in ``[::step]``."""
    pixel = np.floor(quantise(start + np.arange(count) * step))[:, None]
    first, last = int(pixel[0, 0]), int(pixel[-1, 0]) + 1
    return Axis(first, last, _matrix(pixel - first, np.ones_like(pixel), last - first))


def cubic_axis(start: float, step: float, count: int) -> Axis:
    """Return the weights of bicubic interpolation at the output pixels' centres (Keys 1981, a = -0.5); ``step < 1``."""
    centre = quantise(start + (np.arange(count) + 0.5) * step - 0.5)
    base = np.floor(centre)
    distance = np.abs((centre - base)[:, None] - np.arange(-1, 3))
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = np.where(distance <= 1, near, far)
    pixel = base[:, None] + np.arange(-1, 3)
    first, last = int(pixel[0, 0]), int(pixel[-1, -1]) + 1
    return Axis(first, last, _matrix(pixel - first, weights, last - first))


def combine(pixels: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Resample ``(h, w, c)`` source pixels of both axes' ranges to ``(H, W, c)`` uint8, rounded half up."""
    if rows.weights is None and columns.weights is None:
        return pixels if rows.block == columns.block == 1 else _block_mean(pixels, rows.block, columns.block)
    channels = pixels.shape[2]
    row_weights, column_weights = _explicit(rows), _explicit(columns)
    vertical = row_weights @ pixels.reshape(pixels.shape[0], -1).astype(np.float64)
    vertical = vertical.reshape(-1, pixels.shape[1], channels).transpose(1, 0, 2).reshape(pixels.shape[1], -1)
    both = (column_weights @ vertical).reshape(column_weights.shape[0], -1, channels).transpose(1, 0, 2)
    total = np.asarray(row_weights.sum(axis=1)).reshape(-1, 1, 1) * np.asarray(column_weights.sum(axis=1)).reshape(
        1, -1, 1
    )
    return np.clip(np.floor(both / total + 0.5), 0, 255).astype(np.uint8)


def _block_mean(pixels: np.ndarray, down: int, across: int) -> np.ndarray:
    height, width, channels = pixels.shape
    blocks = pixels.reshape(height // down, down, width // across, across, channels)
    total = blocks.sum(axis=(1, 3), dtype=np.uint32)
    count = down * across
    return ((2 * total + count) // (2 * count)).astype(np.uint8)


def _explicit(axis: Axis) -> sparse.csr_matrix:
    if axis.weights is not None:
        return axis.weights
    count = (axis.last - axis.first) // axis.block
    pixel = np.arange(count)[:, None] * axis.block + np.arange(axis.block)
    return _matrix(pixel, np.ones(pixel.shape), axis.last - axis.first)


def _matrix(pixel: np.ndarray, weights: np.ndarray, width: int) -> sparse.csr_matrix:
    used = weights != 0
    rows = np.broadcast_to(np.arange(len(pixel))[:, None], pixel.shape)[used]
    return sparse.csr_matrix((weights[used], (rows, pixel[used].astype(np.int64))), shape=(len(pixel), width))
