"""Patches from slides in another style."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.transforms import RandomizableTransform, Transform

from ..data.styled import styled_slides
from ..slides import slide_name

logger = logging.getLogger(__name__)


class RandStyledSlided(RandomizableTransform, Transform):
    """Take the patch from one of its slide's versions in another style, made by :class:`common.style.SlideRestyler`.

    Before :class:`LoadMultiMagnificationPatchd`, which reads the pixels from the ``styled`` slide that this adds to the
    item, and the labels as ever.

    Args:
        folder: of the styled slides; None: there are none, and nothing is done.
        prob: of doing anything, where a slide has styled versions (paper: 0.3).

    Raises:
        ValueError: the folder has no styled slides.

    Source: Modi et al. 2024, "StyleGAN augmentations".
    """

    def __init__(self, folder: str | Path | None, prob: float = 0.3) -> None:
        RandomizableTransform.__init__(self, prob)
        self.styled = {} if folder is None else styled_slides(folder)
        if folder is None and prob > 0:
            logger.warning("no styled slides are given (styled): patches in other styles are not mixed in")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize(None)
        if self.styled and not isinstance(data["image"], str | Path):
            raise ValueError("packed patches cannot be taken from slides in other styles: leave styles or packing out")
        versions = self.styled.get(slide_name(data["image"]), []) if self.styled else []
        if not (self._do_transform and versions):
            return dict(data)
        return {**data, "styled": versions[int(self.R.randint(len(versions)))]}
