"""Patches from slides in another style."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, cast

from monai.transforms import RandomizableTransform, Transform

from ..slides import slide_state
from .output_names import output_name
from .styled_slides import StyledSlide, styled_slides

logger = logging.getLogger(__name__)


class RandStyledSlided(RandomizableTransform, Transform):
    """Take the patch from one of its slide's versions in another style, made by :class:`common.style.SlideRestyler`.

    Before :class:`LoadMultiMagnificationPatchd`, which reads the pixels from the ``styled`` slide that this adds to the
    item, and the labels as ever.

    Args:
        folder: of the styled slides; None: there are none, and nothing is done.
        prob: of doing anything, where a slide has styled versions (paper: 0.3).

    Raises:
        ValueError: the folder has no styled slides, or those of other files of the same names; or there is a folder and
            they are never taken.

    Source: Modi et al. 2024, "StyleGAN augmentations".
    """

    def __init__(self, folder: str | Path | None, prob: float = 0.3) -> None:
        RandomizableTransform.__init__(self, prob)
        self.styled = {} if folder is None else styled_slides(folder)
        if folder is None and prob > 0:
            logger.warning("no styled slides are given (styled): patches in other styles are not mixed in")
        if folder is not None and prob == 0:
            raise ValueError(f"{folder}: styled slides are given, but augmentations does not name style. Name it there")
        self._checked: set[str] = set()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize(None)
        if self.styled and not isinstance(data["image"], str | Path):
            raise ValueError("packed patches cannot be taken from slides in other styles: leave styles or packing out")
        found = self.styled.get(output_name(cast(Mapping[str, Any], data))) if self.styled else None
        if not self._do_transform or found is None:
            return dict(data)
        self._check(str(data["image"]), found)
        return {**data, "styled": found.versions[int(self.R.randint(len(found.versions)))]}

    def _check(self, path: str, found: StyledSlide) -> None:
        if path not in self._checked and slide_state(path).size != found.source_bytes:
            raise ValueError(
                f"{found.versions[0]}: made of another file than {path}. Make it again with configs/style_transfer.yaml"
            )
        self._checked.add(path)
