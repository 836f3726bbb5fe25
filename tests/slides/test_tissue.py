"""The tissue mask."""

import numpy as np
from PIL import Image

from common.slides import open_slide, tissue_mask


def test_otsu_finds_the_tissue_and_nothing_else(tmp_path):
    image = np.full((400, 600, 3), 245, dtype=np.uint8)
    image[120:280, 200:440] = (190, 90, 160)
    image += np.random.default_rng(0).integers(0, 8, image.shape, dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "slide.png")
    mask = tissue_mask(open_slide(tmp_path / "slide.png", mpp=2.0), mpp=8.0)
    assert abs(mask.share - 160 * 240 / (400 * 600)) < 0.02
    assert mask.any(270, 430, 64, 64)
    assert not mask.any(300, 460, 90, 90)
    assert not mask.any(-500, -500, 100, 100)


def test_a_slide_without_contrast_is_all_tissue(tmp_path):
    Image.fromarray(np.full((200, 200, 3), 240, dtype=np.uint8)).save(tmp_path / "slide.png")
    assert tissue_mask(open_slide(tmp_path / "slide.png", mpp=2.0)).share == 1.0
