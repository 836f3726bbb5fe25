"""Stain normalisation of whole slides: fitted once per slide, then every pixel by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.apps.pathology.transforms.stain.array import NormalizeHEStains

from ..slides import Slide, SlideError, tissue_mask

# Tiles of this many pixels at this many µm/px are looked at, at most so many, spread over the tissue.
_TILE, _MPP, _TILES = 128, 1.0, 40


@dataclass(frozen=True)
class StainMap:
    """How a slide's colours become those of a reference.

    Attributes:
        stains: optical densities of the slide's two dyes, ``(3, 2)``.
        strength: amount of each dye that the reference has for one of the slide's, ``(2,)``.
        reference: optical densities of the reference's dyes, ``(3, 2)``.
        light: grey value of glass.
    """

    stains: np.ndarray
    strength: np.ndarray
    reference: np.ndarray
    light: float

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Values from 0 to 255, ``(3, …)`` -> the same shape, whole numbers as float32."""
        made = self.reference @ np.diag(self.strength) @ np.linalg.pinv(self.stains)
        matrix = torch.from_numpy(made).to(pixels.device, torch.float32)
        density = -torch.log((pixels.float() + 1).clamp(max=self.light) / self.light)
        shown = self.light * torch.exp(-torch.tensordot(matrix, density, dims=1))
        # As MONAI does: what is brighter than a byte holds becomes 254, fractions are cut off.
        return torch.where(shown > 255, 254.0, shown).floor()


def fit_stains(slide: Slide, normalizer: NormalizeHEStains | None = None) -> StainMap:
    """Find the two dyes of a slide in its tissue (Macenko et al. 2009), as MONAI's NormalizeHEStains does of a patch.

    Of single patches, which that is made for, one of stroma alone would be stained like one full of nuclei, and
    neighbours on a segmented slide differently.

    Args:
        slide: the slide.
        normalizer: with its reference; MONAI's default.

    Raises:
        SlideError: it has too little tissue for it.
    """
    normalizer = normalizer or NormalizeHEStains()
    return stain_map(tissue_sample(slide), normalizer, slide)


def stain_map(pixels: np.ndarray, normalizer: NormalizeHEStains, slide: Slide) -> StainMap:
    """The map that MONAI's normaliser would use on a picture, ``(h, w, 3)`` uint8."""
    try:
        stains = normalizer.stain_extractor(pixels)
    except (ValueError, np.linalg.LinAlgError) as error:
        remedy = "Leave the slide, or stain normalisation, out"
        raise SlideError(slide.path, f"its stains cannot be found: {error}", remedy) from error
    density = -np.log((pixels.reshape(-1, 3).astype(np.float32) + 1).clip(max=normalizer.tli) / normalizer.tli)
    amounts = np.linalg.lstsq(stains, density.T, rcond=None)[0]
    most = np.percentile(amounts, 99, axis=1)
    if not (np.isfinite(most).all() and (most > 1e-3).all()):
        raise SlideError(slide.path, "it shows one dye only", "Leave the slide, or stain normalisation, out")
    return StainMap(stains, normalizer.max_cref / most, normalizer.target_he, float(normalizer.tli))


def tissue_sample(slide: Slide) -> np.ndarray:
    """Tiles of tissue one below the other, ``(h, w, 3)`` uint8, spread over the slide."""
    mask = tissue_mask(slide)
    mpp = max(_MPP, slide.mpp)
    side = slide.level0_pixels(mpp * _TILE)
    rows, columns = (np.arange(step / 2, full, step) for step, full in zip(side, slide.shape, strict=True))
    places = np.argwhere(mask.at(rows, columns))
    if not len(places):
        raise SlideError(slide.path, "no tissue to find stains in", "Leave the slide, or stain normalisation, out")
    chosen = np.unique(np.linspace(0, len(places) - 1, min(_TILES, len(places))).round().astype(int)).tolist()
    tiles = [slide.read((rows[places[i][0]], columns[places[i][1]]), mpp, _TILE) for i in chosen]
    return np.concatenate(tiles)
