"""Normalise stains as a transform."""

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
    """Normalise the stains of every slide to a reference (Macenko et al. 2009, with MONAI's NormalizeHEStains).

    This is one line of a bundle's preprocessing, before intensities are scaled. In train.yaml and evaluate.yaml it
    finds the slide by the ``read_from`` of :class:`LoadMultiMagnificationPatchd`. In inference.yaml
    :class:`common.inference.WholeSlideInferer` fits it to each slide. It is made for haematoxylin and eosin.

    Args:
        keys: images ``(3·S, H, W)`` with values from 0 to 255. The patch from elsewhere on the slide (``elsewhere``) is
            normalised too, if evaluation reads one.
        target_he: optical densities of the reference's dyes, rows red, green, blue; MONAI's by default.
        max_cref: amount of each dye in the reference; MONAI's by default.
        allow_missing_keys: as in MONAI.

    Raises:
        SlideError: a slide's stains cannot be found.
        ValueError: the slide of a patch is unknown.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        target_he: Sequence[Sequence[float]] | None = None,
        max_cref: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__([key for key in ensure_tuple(keys) if key != _ELSEWHERE], allow_missing_keys)
        reference: dict[str, Any] = {} if target_he is None else {"target_he": target_he}
        reference |= {} if max_cref is None else {"max_cref": max_cref}
        self.normalizer = NormalizeHEStains(**reference)
        self._store = SlideStore()
        self._fitted: dict[tuple[tuple[str, Any], ...], StainMap] = {}
        self._slide: StainMap | None = None

    def fit_slide(self, slide: Slide) -> None:
        """Fit the transform to a slide, to which all later pixels belong."""
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
