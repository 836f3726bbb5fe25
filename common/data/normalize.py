"""Stain normalisation as a transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.apps.pathology.transforms.stain.array import NormalizeHEStains
from monai.transforms import MapTransform
from monai.utils import ensure_tuple

from ..slides import Slide
from .load import READ_FROM
from .stain_normalization import StainMap, fit_stains
from .store import SlideStore

_ELSEWHERE = "elsewhere"


class NormalizeStainsd(MapTransform):
    """Bring the stains of every slide to those of a reference (Macenko et al. 2009, by MONAI's NormalizeHEStains).

    One line of a bundle's preprocessing, before intensities are scaled: in train.yaml and evaluate.yaml it finds the
    slide by what :class:`LoadMultiMagnificationPatchd` leaves in the item, in inference.yaml
    :class:`common.inference.WholeSlideInferer` fits it to each slide. Made for haematoxylin and eosin.

    Args:
        keys: images ``(3·S, H, W)`` of values from 0 to 255; the patch from elsewhere on the slide (``elsewhere``),
            where evaluation reads one, is done with them.
        target_he: optical densities of the reference's dyes, rows red, green, blue; MONAI's by default.
        max_cref: its amounts of each; MONAI's by default.
        allow_missing_keys: as MONAI's.

    Raises:
        SlideError: a slide's stains cannot be found.
        ValueError: it is not known which slide a patch is of.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        target_he: Sequence[Sequence[float]] | None = None,
        max_cref: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__([key for key in ensure_tuple(keys) if key != _ELSEWHERE], allow_missing_keys)
        given: dict[str, Any] = {} if target_he is None else {"target_he": target_he}
        given |= {} if max_cref is None else {"max_cref": max_cref}
        self.normalizer = NormalizeHEStains(**given)
        self._store = SlideStore()
        self._fitted: dict[tuple[tuple[str, Any], ...], StainMap] = {}
        self._slide: StainMap | None = None

    def fit_slide(self, slide: Slide) -> None:
        """From now on all pixels are this slide's."""
        self._slide = fit_stains(slide, self.normalizer)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        stains = self._slide or self._of_source(data.get(READ_FROM))
        for key in [*self.key_iterator(result), *([_ELSEWHERE] if _ELSEWHERE in result else [])]:
            image = result[key]
            pixels = image if isinstance(image, torch.Tensor) else torch.from_numpy(np.asarray(image))
            views = [stains(pixels[first : first + 3]) for first in range(0, len(pixels), 3)]
            normalized = torch.cat(views)
            result[key] = normalized if isinstance(image, torch.Tensor) else normalized.numpy()
        return result

    def _of_source(self, source: Mapping[str, Any] | None) -> StainMap:
        if source is None:
            raise ValueError(
                "stain normalisation does not know which slide a patch is of: put it after the transform that reads "
                "patches. Packed patches are not read from a slide: leave packing or normalisation out"
            )
        key = tuple(sorted(source.items()))
        if key not in self._fitted:
            self._fitted[key] = fit_stains(self._store.slide(source), self.normalizer)
        return self._fitted[key]
