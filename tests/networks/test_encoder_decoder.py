"""The encoder-decoders of Mehta et al. 2018."""

from __future__ import annotations

import pytest
import torch

from common.networks import EncoderDecoder, MultiResolutionEncoderDecoder
from common.networks.encoder_decoder import (
    Backbone,
    DenseDecoder,
    SparseDecoder,
    fusion_block,
)
from common.networks.pointwise import PointwiseStrided, PointwiseTransposed

NARROW = (4, 5, 6, 7)
# Skips, sparse decoder, input-aware units; parameters of one resolution and of two; and Table II's
# millions of both, which are up to 0.02 off for two.
VARIANTS = {
    "plain": ("none", False, False, 12_801_632, 25_607_542, "12.80", 25.61),
    "residual": ("residual", False, False, 12_801_632, 25_607_542, "12.80", 25.61),
    "own": ("dense", True, True, 13_000_368, 26_005_014, "13.00", 26.03),
    "A1": ("dense", True, False, 12_925_744, 25_855_766, "12.93", 25.85),
    "A2": ("dense", False, True, 12_991_264, 25_986_806, "12.99", 25.98),
    "A3": ("dense", False, False, 12_916_640, 25_837_558, "12.92", 25.84),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_the_papers(name):
    skips, sparse, aware, single, several, table_single, table_several = VARIANTS[name]
    with torch.device("meta"):
        networks = [
            EncoderDecoder(8, skips, sparse, aware),
            MultiResolutionEncoderDecoder(8, skips, sparse, aware),
        ]
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts == [single, several]
    assert f"{single / 1e6:.2f}" == table_single
    assert several / 1e6 == pytest.approx(table_several, abs=0.025)


@pytest.mark.parametrize(("fusion", "side"), [("dilated", 65), ("stack", 7), ("pyramid", 37)])
def test_how_far_an_output_pixel_of_a_fusion_block_sees(fusion, side):
    block = fusion_block(2, fusion).eval()
    for parameter in block.parameters():
        # Positive throughout, so that every ReLU is open.
        torch.nn.init.constant_(parameter, 0.1)
    image = torch.ones(1, 2, 99, 99, requires_grad=True)
    block(image)[0, 0, 49, 49].backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(dim=0) > 0
    for axis in (0, 1):
        places = seen.any(dim=axis).nonzero()[:, 0]
        assert (int(places[0]), int(places[-1])) == (49 - side // 2, 49 + side // 2)


def test_fusion_a_and_b_and_nothing_else():
    with pytest.raises(ValueError, match="fusion must be one of dilated, stack, pyramid, not 'sum'"):
        fusion_block(8, "sum")
    with pytest.raises(ValueError, match="skips must be one of none, residual, dense"):
        EncoderDecoder(skips="all")


def reached(skips: str) -> set[int]:
    """Return which of the backbone's six maps reach the dense decoder's output."""
    maps = [
        torch.rand(1, channels, 64 // stride, 64 // stride, requires_grad=True)
        for channels, stride in zip((4, 4, 4, 5, 6, 7), (2, 4, 4, 8, 16, 32), strict=True)
    ]
    DenseDecoder(3, NARROW, skips)(maps).square().sum().backward()
    return {index for index, found in enumerate(maps) if found.grad is not None and found.grad.any()}


def test_skips_add_the_maps_of_their_kind():
    assert reached("none") == {5}
    assert reached("residual") == {0, 2, 3, 4, 5}
    assert reached("dense") == {0, 1, 2, 3, 4, 5}


def test_the_sparse_decoder_doubles_five_times_and_sees_every_map():
    maps = [
        torch.rand(1, channels, 64 // stride, 96 // stride, requires_grad=True)
        for channels, stride in zip((4, 4, 4, 5, 6, 7), (2, 4, 4, 8, 16, 32), strict=True)
    ]
    output = SparseDecoder(3, NARROW)(maps)
    assert output.shape == (1, 3, 64, 96)
    output.square().sum().backward()
    assert all(found.grad is not None and found.grad.any() for found in maps)


def test_input_aware_units_show_the_image_to_the_first_two_maps():
    """With the first convolution at zero, only these units carry the image into the first map."""
    found = {}
    for aware in (False, True):
        backbone = Backbone(NARROW, aware).eval()
        torch.nn.init.zeros_(backbone.resnet.conv1.weight)
        first, second = (backbone(image)[:2] for image in (torch.zeros(1, 3, 64, 64), torch.rand(1, 3, 64, 64)))
        found[aware] = [not torch.equal(one, two) for one, two in zip(first, second, strict=True)]
    assert found == {False: [False, False], True: [True, True]}


def test_the_second_network_sees_the_centre_only():
    network = MultiResolutionEncoderDecoder(3, channels=NARROW).eval()
    seen = []
    for part in (network.wide, network.centre):
        part.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    image = torch.rand(1, 3, 96, 192)
    assert network(image).shape == (1, 3, 64, 128)
    assert torch.equal(seen[1], seen[0][:, :, 16:80, 32:160])


@pytest.mark.parametrize(
    ("own", "reference", "size"),
    [
        (PointwiseTransposed(5, 3), torch.nn.ConvTranspose2d(5, 3, 1, 2, output_padding=1), (14, 12)),
        (PointwiseStrided(5, 3, 4), torch.nn.Conv2d(5, 3, 1, 4), (2, 2)),
        (PointwiseStrided(5, 3, 2, bias=False), torch.nn.Conv2d(5, 3, 1, 2, bias=False), (4, 3)),
    ],
)
def test_pointwise_convolutions_are_torchs(own, reference, size):
    torch.nn.init.normal_(own.weight)
    reference.load_state_dict(own.state_dict())
    image = torch.rand(2, 5, 7, 6)
    assert torch.allclose(own(image), reference(image), atol=1e-6)
    assert own(image).shape == (2, 3, *size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_trains_on_maps_laid_out_channels_last(dtype):
    """torch's own strided 1 x 1 convolutions end the process here."""
    torch.manual_seed(0)
    network = MultiResolutionEncoderDecoder(channels=(8, 16, 32, 64)).to(memory_format=torch.channels_last)
    image = torch.rand(4, 3, 192, 192).contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            total = network(image).float().mean()
        total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(("kind", "reach"), [(EncoderDecoder, 251), (MultiResolutionEncoderDecoder, 284)])
def test_nothing_beyond_the_margin_reaches_a_pixel(kind, reach):
    torch.manual_seed(0)
    network = kind(2, channels=(1, 1, 1, 1)).eval().double()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.constant_(module.weight, 0.1)
    farthest = 0
    # Pixels that fall differently on the poolings.
    for place in (288, 319):
        image = torch.ones(1, 3, 608, 608, dtype=torch.float64, requires_grad=True)
        network.forward_with_context(image, [])[0, 0, place, place].backward()
        assert image.grad is not None
        seen = (image.grad[0].abs().sum(dim=0) > 0).nonzero()
        farthest = max(farthest, int((seen - place).abs().max()))
    assert farthest == reach <= network.receptive_margin
