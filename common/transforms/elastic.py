"""Elastic deformation of all views and the label map around one centre."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from scipy.interpolate import RectBivariateSpline
from torch.nn import functional

from ..slides import FieldOfView


class ElasticDeformationd(MapTransform):
    """Deform patches whose ``deformation`` is a seed; leave those with -1 as they are.

    A grid of points around the centre is displaced by a normal distribution and interpolated bicubically between them,
    in every view and the label map at its own µm/px: all show the same deformed tissue, whichever views a network has.

    Args:
        keys: the image's key.
        fields_of_view: the views, finest first.
        target: the label map's field of view.
        label_key: the label map's key.
        extent: µm a side that the grid spans; at least what is seen (paper: 1024 pixels at 20x, 512 µm).
        sigma: standard deviation of the displacement in µm (paper: 4 pixels at 20x, 2 µm).
        grid: points a side (paper: 17).

    Raises:
        ValueError: a view or the target reaches over the grid.

    Source: Ho et al. 2021, section 2.3. The paper deforms the 1024² input patch, before its views are cut.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
        target: FieldOfView | Mapping[str, Any],
        extent: float,
        sigma: float,
        label_key: str = "label",
        grid: int = 17,
    ) -> None:
        super().__init__(keys)
        self.views = [FieldOfView.from_config(view) for view in fields_of_view]
        self.target = FieldOfView.from_config(target)
        self.label_key, self.grid, self.extent, self.sigma = label_key, grid, extent, sigma
        widest = max(view.extent for view in [*self.views, self.target])
        if widest > extent * (1 + 1e-6):
            raise ValueError(
                f"the elastic deformation spans {extent:g} µm, less than the {widest:g} µm that are seen. Set its "
                f"extent (elastic_extent) to {widest:g} or more, and its sigma (elastic_sigma) in proportion"
            )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        seed = int(result.get("deformation", -1))
        if seed < 0:
            return result
        nodes = np.random.default_rng(seed).normal(0, self.sigma, (2, self.grid, self.grid))
        points = np.arange(self.grid)
        field = [RectBivariateSpline(points, points, axis, kx=3, ky=3) for axis in nodes]
        for key in self.key_iterator(result):
            image = result[key]
            views = [self._warp(image[3 * i : 3 * i + 3], view, field, "bicubic") for i, view in enumerate(self.views)]
            result[key] = np.concatenate(views)
        result[self.label_key] = self._warp(result[self.label_key], self.target, field, "nearest")
        return result

    def _displacement(self, view: FieldOfView, field: Sequence[RectBivariateSpline]) -> np.ndarray:
        """µm by which each pixel of a view is displaced: ``(2, size, size)``, row and column."""
        offset = (np.arange(view.size) + 0.5 - view.size / 2) * view.mpp
        place = (offset / self.extent + 0.5) * (self.grid - 1)
        return np.stack([axis(place, place) for axis in field])

    def _warp(
        self, image: np.ndarray, view: FieldOfView, field: Sequence[RectBivariateSpline], mode: str
    ) -> np.ndarray:
        pixels = self._displacement(view, field) / view.mpp
        at = (np.arange(view.size) + 0.5) / view.size * 2 - 1
        rows, columns = np.meshgrid(at, at, indexing="ij")
        grid = np.stack([columns + pixels[1] * 2 / view.size, rows + pixels[0] * 2 / view.size], axis=-1)
        warped = functional.grid_sample(
            torch.as_tensor(np.asarray(image), dtype=torch.float32)[None],
            torch.as_tensor(grid, dtype=torch.float32)[None],
            mode=mode,
            padding_mode="reflection",
            align_corners=False,
        )[0]
        return warped.round().clamp(0, 255).to(torch.uint8).numpy()
