"""A network whose context is the tile around the slice, against patches run one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.inference import InferenceOptions, Segmenter
from common.networks import DMMNM3, DARefineNet
from common.slides import FieldOfView, PatchReader, TissueMask, open_slide
from tests.conftest import write_pyramid

CPU = torch.device("cpu")
SIDE = 64
TARGET = FieldOfView(0.5, SIDE)
VIEWS = [TARGET, FieldOfView(2.5, SIDE, anchor="tile")]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """Of 1.4 x 2.1 tiles, every patch of noise its own, and every tile as bright as no other."""
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 256, (28, 42, 3)).repeat(16, 0).repeat(16, 1)
    tiles = np.array([[1.0, 0.5, 0.2], [0.3, 0.8, 0.1]]).repeat(320, 0).repeat(320, 1)[:448, :672, None]
    pixels = ((coarse // 2 + rng.integers(0, 128, coarse.shape)) * tiles).astype(np.uint8)
    return open_slide(write_pyramid(tmp_path_factory.mktemp("slide") / "s.tif", [pixels], (0.5, 0.5)))


def make(fusion: str) -> DARefineNet:
    torch.manual_seed(5)
    network = DARefineNet(7, "resnet18", "resnet18", fusion, (4, 6, 8, 10), (8, 6, 6, 6)).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2.0)
        for parameter in network.contexts.parameters():
            # What the tile says is to be seen in the output.
            parameter *= 4
    return network


class Counting(torch.nn.Module):
    """Counts the images that another module sees."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, 0

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        self.seen += len(image)
        return self.inner(image)


def probabilities(slide, folder, network, scheme, **options) -> np.ndarray:
    reader = PatchReader(VIEWS)
    run = Segmenter(network, [CPU], reader, TARGET, scheme, InferenceOptions(**options), lambda x: x / 255)
    return run.segment(slide, folder, {}, ("labels", "probabilities")).maps["probabilities"].array[:].astype(int)


def of_patch(slide, network, scheme, top: int, left: int, transforms=((0, False),)) -> np.ndarray:
    """255 times the probabilities of a patch, the mean over rotations and flips of the slice and its tile."""
    patch = PatchReader(VIEWS).read(slide, (top + SIDE / 2, left + SIDE / 2)).astype(np.float32) / 255
    total = 0
    for k, flipped in transforms:
        moved = np.rot90(patch[:, :, ::-1] if flipped else patch, k, (1, 2)).copy()
        with torch.no_grad():
            said = scheme.probabilities(network(torch.from_numpy(moved)[None]))[0].numpy()
        said = np.rot90(said, -k, (1, 2))
        total = total + (said[:, :, ::-1] if flipped else said)
    return 255 * np.asarray(total) / len(transforms)


@pytest.mark.parametrize("fusion", ["attention", *(pytest.param(f, marks=pytest.mark.all) for f in ("concat", "add"))])
@pytest.mark.parametrize("context", ["per_patch", "shared"])
def test_every_slice_gets_its_own_tile(slide, scheme, tmp_path, fusion, context):
    network = make(fusion)
    for block in (2, 5):
        found = probabilities(slide, tmp_path / str(block), network, scheme, context=context, block=block, batch_size=3)
        for top in range(0, slide.shape[0], SIDE):
            for left in range(0, slide.shape[1], SIDE):
                expected = of_patch(slide, network, scheme, top, left)
                part = found[:, top : top + SIDE, left : left + SIDE]
                assert abs(part - expected[:, : part.shape[1], : part.shape[2]]).max() <= 1


def test_the_tile_matters_to_the_networks_of_these_tests(slide, scheme):
    reader = PatchReader(VIEWS)
    patch, other = (
        torch.from_numpy(reader.read(slide, (32.0, column))[None] / np.float32(255)) for column in (32, 600)
    )
    other[:, :3] = patch[:, :3]
    for fusion in ("attention", "concat", "add"):
        network = make(fusion)
        with torch.no_grad():
            said = [255 * scheme.probabilities(network(image)) for image in (patch, other)]
        assert abs(said[0] - said[1]).max() > 4


def test_a_tile_is_encoded_once_for_all_its_slices(slide, scheme, tmp_path):
    network = make("attention")
    network.context_encoder = Counting(network.context_encoder)
    probabilities(slide, tmp_path / "a", network, scheme, context="shared", block=5)
    assert network.context_encoder.seen == 2 * 3
    network.context_encoder.seen = 0
    probabilities(slide, tmp_path / "b", network, scheme, context="per_patch", block=5)
    assert network.context_encoder.seen == 7 * 11


def test_overlapping_slices_take_the_tile_of_their_centre(slide, scheme, tmp_path):
    network = make("add")
    shared, single = (
        probabilities(slide, tmp_path / context, network, scheme, context=context, overlap=0.5, block=4)
        for context in ("shared", "per_patch")
    )
    assert abs(shared - single).max() <= 1
    # A corner is nobody else's.
    expected = of_patch(slide, network, scheme, 0, 0)[:, : SIDE // 2, : SIDE // 2]
    assert abs(shared[:, : SIDE // 2, : SIDE // 2] - expected).max() <= 1


def test_a_tile_is_rotated_with_its_slices(slide, scheme, tmp_path):
    network = make("add")
    found = probabilities(slide, tmp_path, network, scheme, context="shared", tta="d4", block=5)
    transforms = [(k, flipped) for k in range(4) for flipped in (False, True)]
    for top, left in ((0, 0), (256, 384), (320, 576)):
        expected = of_patch(slide, network, scheme, top, left, transforms)
        part = found[:, top : top + SIDE, left : left + SIDE]
        assert abs(part - expected[:, : part.shape[1], : part.shape[2]]).max() <= 1


def test_tiles_without_a_selected_slice_are_not_encoded(slide, scheme, tmp_path):
    network = make("attention")
    network.context_encoder = Counting(network.context_encoder)
    mask = np.zeros((7, 11), dtype=bool)
    mask[1, 1] = mask[6, 7] = True
    tissue = TissueMask(mask, (SIDE, SIDE), 0.0)
    run = Segmenter(
        network,
        [CPU],
        PatchReader(VIEWS),
        TARGET,
        scheme,
        InferenceOptions(context="shared", block=20),
        lambda x: x / 255,
    )
    found = run.segment(slide, tmp_path, {}, ("labels", "probabilities"), tissue).maps["probabilities"]
    found = found.array[:].astype(int)
    assert network.context_encoder.seen == 2
    for top, left in ((64, 64), (384, 448)):
        expected = of_patch(slide, network, scheme, top, left)
        assert abs(found[:, top : top + SIDE, left : left + SIDE] - expected).max() <= 1
    assert not found[:, :64].any()


def test_tiles_are_not_laid_together_without_seams(slide, scheme, tmp_path):
    with pytest.raises(ValueError, match='DARefineNet cannot be run with context="seamless".* Set context to "per_p'):
        probabilities(slide, tmp_path, make("add"), scheme, context="seamless")
    # Maps of DMMN say where in the view they are, and cannot serve a whole tile.
    views = [TARGET, FieldOfView(1.0, SIDE), FieldOfView(2.0, SIDE, anchor="tile")]
    network = DMMNM3(channels=(4, 6, 8, 10))
    for context in ("shared", "seamless"):
        run = Segmenter(
            network, [CPU], PatchReader(views), TARGET, scheme, InferenceOptions(context=context), lambda x: x / 255
        )
        with pytest.raises(ValueError, match=f'DMMNM3 cannot be run with context="{context}" on views that are anch'):
            run.segment(slide, tmp_path / context, {})
