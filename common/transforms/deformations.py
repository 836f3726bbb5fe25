"""Random deformations of tissue around a patch's centre. :class:`RandDeformd` applies them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from .views import number_range

# Coordinates ``(2, …)`` in µm from the centre (down, across) -> coordinates of the tissue to show there.
Warp = Callable[[np.ndarray], np.ndarray]


@dataclass
class Deformation(ABC):
    """Base of random deformations.

    Args:
        prob: probability of applying it.
    """

    prob: float = field(default=0.5, kw_only=True)

    @abstractmethod
    def sample(self, rng: np.random.RandomState, extent: float) -> Warp:
        """Return a random warp.

        Args:
            rng: source of random numbers.
            extent: side of the widest view in µm.
        """


@dataclass
class Rotation(Deformation):
    """Rotation by up to ``degrees`` in either direction."""

    degrees: float = 180.0

    def sample(self, rng: np.random.RandomState, extent: float) -> Warp:
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        return _linear(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))


@dataclass
class Shear(Deformation):
    """Shear along a random axis by up to ``shear`` µm per µm."""

    shear: float = 0.2

    def sample(self, rng: np.random.RandomState, extent: float) -> Warp:
        amount, down = rng.uniform(-self.shear, self.shear), rng.random() < 0.5
        return _linear(np.array([[1.0, amount if down else 0.0], [0.0 if down else amount, 1.0]]))


@dataclass
class Scaling(Deformation):
    """Enlargement by a factor in the range ``scale``, uniform on a logarithmic scale."""

    scale: Sequence[float] = (0.8, 1.25)

    def __post_init__(self) -> None:
        self.scale = number_range(self.scale, "scale", 1e-3)

    def sample(self, rng: np.random.RandomState, extent: float) -> Warp:
        return _linear(np.eye(2) / np.exp(rng.uniform(*np.log(self.scale))))


@dataclass
class Translation(Deformation):
    """Translation by up to ``shift`` µm along each axis."""

    shift: float = 20.0

    def sample(self, rng: np.random.RandomState, extent: float) -> Warp:
        shift = rng.uniform(-self.shift, self.shift, 2)
        return lambda coords: coords - shift.reshape(2, *[1] * (coords.ndim - 1))


@dataclass
class ElasticWarp(Deformation):
    """Random displacement of the points of a grid, interpolated between them by cubic splines.

    Args:
        spacing: µm between the points.
        sigma: smallest and largest standard deviation of the displacement in µm.
        prob: probability of applying it.
    """

    spacing: float = 32.0
    sigma: Sequence[float] = (1.0, 5.0)

    def __post_init__(self) -> None:
        self.sigma = number_range(self.sigma, "sigma", 0)

    def sample(self, rng: np.random.RandomState, extent: float) -> Warp:
        half = int(np.ceil(extent / 2 / self.spacing)) + 3
        nodes = rng.normal(0, rng.uniform(self.sigma[0], self.sigma[1]), (2, 2 * half + 1, 2 * half + 1))
        splines = np.stack([ndimage.spline_filter(axis, order=3) for axis in nodes])

        def displaced(coords: np.ndarray) -> np.ndarray:
            at = coords / self.spacing + half
            by = [ndimage.map_coordinates(axis, at, order=3, mode="nearest", prefilter=False) for axis in splines]
            return coords + np.stack(by)

        return displaced


@dataclass
class GridStretch(Deformation):
    """Random widths of a grid's rows and columns ("grid distortion").

    Args:
        spacing: µm between the grid's lines.
        limit: largest share by which a row or column changes.
        prob: probability of applying it.

    Raises:
        ValueError: ``limit`` is 1 or more: tissue would fold.
    """

    spacing: float = 64.0
    limit: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.limit < 1:
            raise ValueError(f"limit must be from 0 to below 1, or tissue would fold, not {self.limit}")

    def sample(self, rng: np.random.RandomState, extent: float) -> Warp:
        half = int(np.ceil(extent / self.spacing)) + 1
        lines = np.arange(-half, half + 1) * self.spacing
        stretched = []
        for _ in range(2):
            widths = self.spacing * (1 + rng.uniform(-self.limit, self.limit, 2 * half))
            edges = np.concatenate([[0.0], np.cumsum(widths)])
            stretched.append(edges - edges[half])
        return lambda coords: np.stack([np.interp(coords[axis], lines, stretched[axis]) for axis in (0, 1)])


@dataclass
class OpticalDistortion(Deformation):
    """Barrel or pincushion distortion of a lens.

    Args:
        limit: largest share by which the edge of the widest view moves towards or away from the centre.
        prob: probability of applying it.

    Raises:
        ValueError: ``limit`` is more than a sixth: the corners of the widest view would fold.
    """

    limit: float = 0.15

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= 1 / 6:
            raise ValueError(f"limit must be from 0 to 1/6, or tissue would fold, not {self.limit}")

    def sample(self, rng: np.random.RandomState, extent: float) -> Warp:
        amount, edge = rng.uniform(-self.limit, self.limit), extent / 2
        return lambda coords: coords * (1 + amount * ((coords / edge) ** 2).sum(axis=0))


def _linear(matrix: np.ndarray) -> Warp:
    return lambda coords: np.tensordot(matrix, coords, axes=1)
