"""Stain normalisation, fitted to slides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.apps.pathology.transforms.stain.array import NormalizeHEStains
from monai.transforms import Compose, ScaleIntensityRanged

from common.classes import ClassScheme
from common.data import LoadMultiMagnificationPatchd, NormalizeStainsd
from common.data.stain_normalization import fit_stains, stain_map, tissue_sample
from common.inference import InferenceOptions, WholeSlideInferer
from common.phantom.layout import Layout
from common.phantom.paint import Painter
from common.phantom.recipe import BREAST, Stain
from common.slides import FieldOfView, SlideError, open_slide
from tests.conftest import write_pyramid

VIEWS = [FieldOfView(0.5, 64), FieldOfView(2.0, 64)]


def test_a_slides_map_does_to_its_sample_what_monai_does_to_it(phantom):
    with open_slide(phantom.slide) as slide:
        sample = tissue_sample(slide)
        found = fit_stains(slide)
        wanted = NormalizeHEStains()(sample)
        made = found(torch.from_numpy(sample.transpose(2, 0, 1).copy())).numpy().transpose(1, 2, 0)
    difference = np.abs(made - wanted.astype(float))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    assert np.abs(wanted.astype(float) - sample).mean() > 3


def painted(nuclear: float, counterstain: float) -> np.ndarray:
    """The same tissue, stained more or less."""
    painter = Painter(Layout(BREAST, 16, 1536, 1536), 1.0)
    stain = Stain()
    scanner = painter.scanner
    scanner = type(scanner)(
        np.array(stain.nuclear) * nuclear, np.array(stain.counterstain) * counterstain, np.full(3, 240.0), 0.4, 0.0
    )
    painter.scanner = scanner
    return painter.image(300, 300, 512, 512)


def test_the_same_tissue_stained_otherwise_becomes_alike(phantom):
    with open_slide(phantom.slide) as slide:
        pictures = [painted(1.0, 1.0), painted(0.7, 1.4)]
        maps = [stain_map(picture, NormalizeHEStains(), slide) for picture in pictures]
    made = [
        found(torch.from_numpy(picture.transpose(2, 0, 1).copy())).numpy().transpose(1, 2, 0)
        for found, picture in zip(maps, pictures, strict=True)
    ]
    before = np.abs(pictures[0].astype(float) - pictures[1]).mean()
    assert before > 8
    assert np.abs(made[0] - made[1]).mean() < 0.35 * before


def test_patches_of_all_views_are_normalised_by_their_slide(phantom):
    load = LoadMultiMagnificationPatchd("image", VIEWS, None)
    item = load({"image": str(phantom.slide), "center": (1500.0, 1500.0)})
    with open_slide(phantom.slide) as slide:
        found = fit_stains(slide)
    made = NormalizeStainsd(["image", "elsewhere"], allow_missing_keys=True)(item)["image"]
    for first in (0, 3):
        wanted = found(torch.from_numpy(item["image"][first : first + 3].copy())).numpy()
        assert np.array_equal(made[first : first + 3], wanted)
    with pytest.raises(ValueError, match="which slide a patch is of"):
        NormalizeStainsd("image")({"image": item["image"]})


class Reddest(torch.nn.Module):
    """Of two classes the first where red is above a half."""

    mpp_ratios = (1,)
    size_divisor = 1

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        red = image[:, :1] - 0.5 + 0 * self.weight
        return torch.cat([red, -red], dim=1)


def test_the_engine_fits_it_to_each_slide(tmp_path):
    """Two slides of the same tissue, stained otherwise, have nearly the same label map."""
    for name, strengths in {"pale": (0.7, 1.4), "usual": (1.0, 1.0)}.items():
        write_pyramid(tmp_path / f"{name}.tif", [painted(*strengths)], (1.0, 1.0), lossless=True, tile=64)
    scheme = ClassScheme([{"name": n, "color": (0, 0, 0), "label": i + 1, "channel": i} for i, n in enumerate("ab")])
    scale = ScaleIntensityRanged("image", 0, 255, 0, 1)
    view = FieldOfView(1.0, 128)
    maps = {}
    for way, transforms in {"plain": [scale], "normalised": [NormalizeStainsd("image"), scale]}.items():
        inferer = WholeSlideInferer(
            [view],
            view,
            scheme,
            tmp_path / way,
            ["summary.json"],
            Compose(transforms),
            options=InferenceOptions(block=2),
        )
        for name in ("pale", "usual"):
            found = inferer({"image": str(tmp_path / f"{name}.tif")}, Reddest())
            assert "error" not in found, found
            maps[way, name] = found["classes"]["a"]["share"]
    apart = {way: abs(maps[way, "pale"] - maps[way, "usual"]) for way in ("plain", "normalised")}
    assert apart["normalised"] < 0.5 * apart["plain"]


def test_a_slide_without_stained_tissue_is_refused_by_name(tmp_path):
    glass = np.full((256, 256, 3), 238, np.uint8)
    path = write_pyramid(tmp_path / "glass.tif", [glass], (1.0, 1.0), lossless=True)
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"glass.tif.*stains cannot be found"):
        fit_stains(slide)
