"""Checks of a preprocessing: each pixel by itself, each field of view by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch

# ``(3·S, h, w)`` float32 from 0 to 255 on the device, finest view first -> what the network takes, in the same shape.
Preprocess = Callable[[torch.Tensor], torch.Tensor]


def check_pixelwise(preprocess: Preprocess, views: int) -> None:
    """Raise ValueError if ``preprocess`` looks at more than one pixel or field of view at a time.

    Blocks of many patches are preprocessed at once, one field of view after the other.
    """
    pixels = sample_pixels(views)
    whole, part = preprocess(pixels.clone()), preprocess(pixels[:, 2:6, 3:7].clone())
    if whole.shape != pixels.shape or not torch.allclose(whole[:, 2:6, 3:7], part, atol=1e-6):
        raise ValueError(
            "preprocessing must treat every pixel by itself, as ScaleIntensityRanged or a normalisation by fixed means "
            "does: a slide is preprocessed in windows of many patches, not patch by patch"
        )
    for first in range(0, 3 * views, 3):
        view = slice(first, first + 3)
        if not torch.allclose(preprocess(pixels[view].repeat(views, 1, 1))[view], whole[view], atol=1e-6):
            raise ValueError("preprocessing must treat every field of view by itself: they are preprocessed one by one")


def treats_views_alike(preprocess: Preprocess, views: int) -> bool:
    """Return whether a view may be preprocessed alone: nothing depends on its position among the channels."""
    pixels = sample_pixels(views)
    whole = preprocess(pixels.clone())
    try:
        alone = [preprocess(pixels[first : first + 3].clone()) for first in range(0, 3 * views, 3)]
    except Exception:  # whatever a transform made for so many channels raises on three
        return False
    return all(torch.equal(whole[3 * index : 3 * index + 3], view) for index, view in enumerate(alone))


def sample_pixels(views: int) -> torch.Tensor:
    """Return ``(3·S, 8, 8)`` float32 with values all over 0 to 255."""
    return torch.arange(3 * views * 64, dtype=torch.float32).reshape(3 * views, 8, 8) * 31 % 256
