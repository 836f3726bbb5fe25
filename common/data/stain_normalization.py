"""Normalise the stains of whole slides: fit once per slide, then map each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.apps.pathology.transforms.stain.array import NormalizeHEStains

from ..slides import Slide, SlideError, tissue_mask

# Side in pixels, µm/px and largest number of the tiles to which stains are fitted, spread over the tissue.
_TILE, _MPP, _TILES = 128, 1.0, 40


@dataclass(frozen=True)
class StainMap:
    """A map from a slide's colours to those of a reference.

    Attributes:
        stains: optical densities of the slide's two dyes, ``(3, 2)``.
        strength: amount of each dye in the reference per amount in the slide, ``(2,)``.
        reference: optical densities of the reference's dyes, ``(3, 2)``.
        light: grey value of glass.
    """

    stains: np.ndarray
    strength: np.ndarray
    reference: np.ndarray
    light: float

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map pixels, ``(3, …)`` with values from 0 to 255, to whole numbers as float32 of the same shape."""
        transfer = self.reference @ np.diag(self.strength) @ np.linalg.pinv(self.stains)
        matrix = torch.from_numpy(transfer).to(pixels.device, torch.float32)
        density = -torch.log((pixels.float() + 1).clamp(max=self.light) / self.light)
        mapped = self.light * torch.exp(-torch.tensordot(matrix, density, dims=1))
        # As in MONAI: values above 255 become 254, and fractions are cut off.
        return torch.where(mapped > 255, 254.0, mapped).floor()


def fit_stains(slide: Slide, normalizer: NormalizeHEStains | None = None) -> StainMap:
    """Fit the two dyes of a slide to its tissue (Macenko et al. 2009), as MONAI's NormalizeHEStains does for a patch.

    Fitted to single patches, a patch of stroma alone would be stained like one full of nuclei, and neighbouring patches
    of a slide would differ.

    Args:
        slide: the slide.
        normalizer: MONAI's normaliser with its reference; the default one if None.

    Raises:
        SlideError: the slide has no tissue, or its stains cannot be found.
    """
    normalizer = normalizer or NormalizeHEStains()
    return stain_map(tissue_sample(slide), normalizer, slide)


def stain_map(pixels: np.ndarray, normalizer: NormalizeHEStains, slide: Slide) -> StainMap:
    """Return the map that MONAI's normaliser would apply to a picture.

    Args:
        pixels: the picture, ``(h, w, 3)`` uint8.
        normalizer: the normaliser.
        slide: slide of the picture, for errors.

    Raises:
        SlideError: its stains cannot be found.
    """
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
    """Return tiles of tissue spread over a slide, stacked in one picture, ``(h, w, 3)`` uint8.

    Raises:
        SlideError: the slide has no tissue.
    """
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
