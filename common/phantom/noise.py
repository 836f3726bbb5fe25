"""Random fields that can be evaluated anywhere, in any order: every value depends only on seed and place."""

from __future__ import annotations

import numpy as np


def hashed(seed: int, *index: np.ndarray | int) -> np.ndarray:
    """Return uniform values in [0, 1) for integer places (splitmix64's finaliser over the seed and the indices)."""
    with np.errstate(over="ignore"):
        state = np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
        value = np.asarray(state)
        for part in index:
            value = _mix(value ^ (np.asarray(part).astype(np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
        return (value >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class SmoothNoise:
    """A smooth random field: cubic B-splines over a lattice of hashed values; mean 0, standard deviation about 1.

    Args:
        seed: random seed of the field.
        wavelength: lattice step in µm.
    """

    # Standard deviation of the spline of uniform values, averaged over places.
    _SPREAD = 0.1387

    def __init__(self, seed: int, wavelength: float) -> None:
        self.seed, self.wavelength = seed, wavelength

    def grid(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return values on the grid of coordinates ``y`` (H,) and ``x`` (W,), in µm: ``(H, W)`` float32."""
        rows, row_weights = self._axis(y)
        columns, column_weights = self._axis(x)
        lattice = hashed(self.seed, rows[:, None], columns[None, :]) - 0.5
        return ((row_weights @ lattice @ column_weights.T) / self._SPREAD).astype(np.float32)

    def at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return values at points ``(y, x)`` in µm, arrays of one shape."""
        total = np.zeros(np.shape(y))
        row, row_weights = _splines(np.asarray(y) / self.wavelength)
        column, column_weights = _splines(np.asarray(x) / self.wavelength)
        for i in range(4):
            for j in range(4):
                total += row_weights[i] * column_weights[j] * (hashed(self.seed, row + i, column + j) - 0.5)
        return total / self._SPREAD

    def _axis(self, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, weights = _splines(coordinates / self.wavelength)
        places = np.arange(first.min(), first.max() + 4)
        matrix = np.zeros((len(coordinates), len(places)))
        for tap in range(4):
            matrix[np.arange(len(coordinates)), first - places[0] + tap] = weights[tap]
        return places, matrix


def _splines(position: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    base = np.floor(position)
    t = position - base
    weights = [(1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6]
    return base.astype(np.int64) - 1, weights


def scattered(
    seed: int, spacing: float, top: float, left: float, bottom: float, right: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points of a jittered grid in a rectangle (µm): ``y``, ``x``, and an integer per point from which to hash
    its appearance."""
    rows = np.arange(int(np.floor(top / spacing)), int(np.floor(bottom / spacing)) + 1)
    columns = np.arange(int(np.floor(left / spacing)), int(np.floor(right / spacing)) + 1)
    row, column = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
    y = (row + 0.15 + 0.7 * hashed(seed, row, column, 0)) * spacing
    x = (column + 0.15 + 0.7 * hashed(seed, row, column, 1)) * spacing
    identity = (hashed(seed, row, column, 2) * 2**40).astype(np.int64)
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    return y[inside], x[inside], identity[inside]
