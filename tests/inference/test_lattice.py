"""Labels do not depend on how a slide is cut into blocks, nor on who reads and predicts them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from common.inference import InferenceOptions, Segmenter
from common.maps import TileGrid
from common.slides import FieldOfView, PatchReader, Slide, open_slide
from tests.conftest import write_pyramid

CPU = torch.device("cpu")
SIDE = 16
# µm of a level-0 pixel (row, column): square, nearly square, and not.
PIXELS = [(0.5, 0.5), (0.4672, 0.4668), (0.25, 0.25005), (0.25, 0.2503), (0.5, 0.2503)]
# Shapes of the levels: whole steps, odd sides that a scanner cuts, steps that are nearly alike along both axes.
PYRAMIDS = {
    "one level": [(100, 140)],
    "2 and 4": [(128, 96), (64, 48), (32, 24)],
    "odd sides": [(131, 101), (65, 50), (32, 25)],
    "2.4 and 2.3989": [(60, 451), (25, 188)],
}


class Checksum(torch.nn.Module):
    """Predicts each pixel's class by a sum over what all views show there: one grey level more gives another class."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = torch.nn.Parameter(torch.tensor(6.0), requires_grad=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        factors = torch.arange(1, image.shape[1] + 1).reshape(-1, 1, 1)
        channel = (image * factors).sum(dim=1).round().remainder(self.classes).long() + 1
        return torch.nn.functional.one_hot(channel, 7).movedim(-1, 1).float()


def noise(path: Path, shapes: list[tuple[int, int]], pixel: tuple[float, float]) -> Slide:
    """A slide every pixel of whose levels is like no other."""
    random = np.random.default_rng(3)
    levels = [random.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]
    return open_slide(write_pyramid(path, levels, pixel, lossless=True, tile=64))


def segmenter(reader: PatchReader, scheme, devices: int = 1, **options) -> Segmenter:
    target = FieldOfView(reader.fields_of_view[0].mpp, SIDE)
    options = {"dtype": "float32", "batch_size": 16, **options}
    return Segmenter(
        Checksum(), [CPU] * devices, reader, target, scheme, InferenceOptions(**options), lambda pixels: pixels
    )


def patch_by_patch(slide: Slide, reader: PatchReader, grid: TileGrid, scheme) -> np.ndarray:
    """The label map, every target from a patch that is read alone."""
    labels = np.zeros([count * SIDE for count in grid.grid], dtype=np.uint8)
    for row, column in np.ndindex(*grid.grid):
        patch = torch.from_numpy(reader.read(slide, grid.center(row, column)).astype(np.float32))
        found = scheme.labels_from_logits(Checksum()(patch[None]))[0].numpy()
        labels[row * SIDE : row * SIDE + SIDE, column * SIDE : column * SIDE + SIDE] = found
    # Pixels that reach over the slide's edge are not predicted.
    labels[grid.covered[0] :] = labels[:, grid.covered[1] :] = 0
    return labels[: grid.shape[0], : grid.shape[1]]


def check_cuts(slide: Slide, reader: PatchReader, scheme, folder: Path) -> None:
    """The label map is that of patches read alone, whatever the blocks, readers and workers."""
    expected = None
    for number, (block, readers, devices) in enumerate([(1, 1, 1), (3, 4, 1), (8, 1, 1), (3, 4, 2)]):
        run = segmenter(reader, scheme, devices, block=block, reader_threads=readers)
        found = run.segment(slide, folder / str(number), {})
        if expected is None:
            expected = patch_by_patch(slide, reader, found.grid, scheme)
        labels = found.maps["labels"].array[:]
        assert (labels != expected).sum() == 0, (block, readers, devices)


@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize("pixel", PIXELS, ids=str)
def test_labels_are_those_of_patches_read_one_by_one(tmp_path, scheme, pixel, pyramid):
    slide = noise(tmp_path / "s.tif", PYRAMIDS[pyramid], pixel)
    # As fine as the second level, if there is one: the first view is read as stored where its pixels are square.
    mpp = math.prod(slide.levels[1 if len(slide.levels) > 1 else 0].mpp) ** 0.5
    views = [FieldOfView(mpp * ratio, SIDE) for ratio in (1, 2, 4)]
    check_cuts(slide, PatchReader(views), scheme, tmp_path)


@pytest.mark.parametrize("shape", [(16, 1400), (1400, 16)], ids=str)
def test_labels_do_not_drift_over_a_long_slide(tmp_path, scheme, shape):
    """Between stored pixels and square ones of the same area lies half a pixel after 1,200."""
    slide = noise(tmp_path / "s.tif", [shape], (0.4672, 0.4668))
    check_cuts(slide, PatchReader([FieldOfView(slide.mpp, SIDE)]), scheme, tmp_path)


@pytest.mark.parametrize("pixel", [(0.5, 0.5), (0.4672, 0.4668)], ids=str)
@pytest.mark.parametrize("resample", ["area", "decimate"])
def test_tiles_and_strides_do_not_depend_on_the_cut(tmp_path, scheme, pixel, resample):
    slide = noise(tmp_path / "s.tif", PYRAMIDS["one level"], pixel)
    views = [FieldOfView(slide.mpp, SIDE), FieldOfView(2 * slide.mpp, SIDE), FieldOfView(3 * slide.mpp, SIDE, "tile")]
    check_cuts(slide, PatchReader(views, resample=resample), scheme, tmp_path)


def test_blended_labels_do_not_depend_on_the_cut(tmp_path, scheme):
    slide = noise(tmp_path / "s.tif", PYRAMIDS["odd sides"], (0.4672, 0.4668))
    reader = PatchReader([FieldOfView(slide.mpp * ratio, SIDE) for ratio in (1, 2)])
    maps = [
        segmenter(reader, scheme, block=block, overlap=0.5).segment(slide, tmp_path / str(block), {}).maps["labels"]
        for block in (1, 3, 8)
    ]
    assert all(np.array_equal(maps[0].array[:], other.array[:]) for other in maps[1:])
