"""Take patches from slides in other styles."""

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
    """Take the patch at random from a version of its slide in another style, made by
    :class:`common.style.SlideRestyler`.

    It stands before :class:`LoadMultiMagnificationPatchd`, which reads the pixels from the ``styled`` slide that this
    adds to the item. The labels stay the same.

    Args:
        folder: folder of the styled slides; None to do nothing.
        prob: probability for a slide with styled versions (paper: 0.3).

    Raises:
        ValueError: the folder has no styled slides, or styled versions of other files with the same names; or there is
            a folder but ``prob`` is 0.

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
        styled = self.styled.get(output_name(cast(Mapping[str, Any], data))) if self.styled else None
        if not self._do_transform or styled is None:
            return dict(data)
        self._check(str(data["image"]), styled)
        return {**data, "styled": styled.versions[int(self.R.randint(len(styled.versions)))]}

    def _check(self, path: str, styled: StyledSlide) -> None:
        if path not in self._checked and slide_state(path).size != styled.source_bytes:
            raise ValueError(
                f"{styled.versions[0]}: made of another file than {path}. Make it again with "
                "configs/style_transfer.yaml"
            )
        self._checked.add(path)
