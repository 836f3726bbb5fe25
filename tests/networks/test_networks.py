"""One tester for all networks: a new one adds a line."""

from __future__ import annotations

import doctest
import inspect
from functools import partial

import pytest
import torch

from common import networks
from common.networks import (
    DMMNM3,
    MRN,
    NETWORKS,
    EfficientNetUNet,
    EncoderDecoder,
    MultiLevelUNet,
    SegmentationNetwork,
    SegNet,
    UNet,
)
from common.networks.mrn import UPSAMPLES
from common.networks.segnet import unpool2

# Ho et al. 2021, Table 2.
PARAMETERS = {
    "SegNet": 18_881_543,
    "UNet": 34_550_663,
    "DMMNS2": 34_554_119,
    "DMMNMS": 30_647_207,
    "DMMNM2S": 25_947_047,
    "DMMNM3": 27_071_303,
}
NARROW = (4, 6, 8, 10, 12)
MULTI_ENCODER = ("DMMNMS", "DMMNM2S", "DMMNM3")


# Build a narrow network of seven output channels.
BUILDERS = {
    **{name: partial(network, out_channels=7, channels=NARROW) for name, network in NETWORKS.items()},
    **{f"MRN-{way}": partial(MRN, out_channels=7, upsample=way, channels=NARROW) for way in UPSAMPLES},
    "EncoderDecoder": partial(EncoderDecoder, out_channels=7, channels=NARROW[:4]),
    "EncoderDecoder plain": partial(EncoderDecoder, 7, "none", False, False, NARROW[:4]),
    "MRN of one view": partial(MRN, out_channels=7, resolutions=1, channels=NARROW),
    "EfficientNetUNet": partial(EfficientNetUNet, 7, "efficientnet-b0", NARROW),
    **{
        f"MultiLevelUNet {merge} {ratio} {merges}": partial(
            MultiLevelUNet, 7, "efficientnet-b0", merge, ratio, NARROW, merges, merged_channels=16
        )
        for merge, ratio, merges in (("compress", 8, 1), ("crop", 4, 3))
    },
}
NETWORK_CLASSES = [
    found
    for found in vars(networks).values()
    if inspect.isclass(found) and issubclass(found, SegmentationNetwork) and found is not SegmentationNetwork
]
ONE_VIEW = ("UNet", "SegNet", "MRN of one view", "EncoderDecoder", "EncoderDecoder plain", "EfficientNetUNet")
SEVERAL_VIEWS = [name for name in BUILDERS if name not in ONE_VIEW]


def narrow(name: str):
    torch.manual_seed(0)
    return BUILDERS[name]().eval()


def image_for(network, batch: int = 2, size: int | None = None) -> torch.Tensor:
    side = size or network.size_divisor
    return torch.rand(batch, 3 * len(network.mpp_ratios), side, side)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_to_the_digit(name):
    with torch.device("meta"):
        network = NETWORKS[name](out_channels=7)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", BUILDERS)
def test_output_covers_the_target_and_every_weight_learns(name):
    network = narrow(name).train()
    image = image_for(network, size=2 * network.size_divisor)
    output = network(image)
    assert output.shape == (2, 7, *image.shape[2:])
    output.square().mean().backward()
    still = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize("name", BUILDERS)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(name):
    network = narrow(name)
    for shape in (
        (1, 3 * len(network.mpp_ratios), network.size_divisor + 8, network.size_divisor),
        (1, 5, 256, 256),
        (9, 256, 256),
    ):
        with pytest.raises(ValueError, match=r"multiples of|field\(s\) of view"):
            network(torch.rand(shape))
    assert 256 % network.size_divisor == 0


@pytest.mark.parametrize("name", BUILDERS)
def test_scripts_and_exports(name):
    network = narrow(name)
    image = image_for(network)
    expected = network(image)
    assert torch.allclose(torch.jit.script(network)(image), expected, atol=1e-5)
    assert torch.allclose(torch.export.export(network, (image,)).module()(image), expected, atol=1e-5)


@pytest.mark.parametrize("network", NETWORK_CLASSES, ids=lambda network: network.__name__)
def test_the_example_of_every_network_runs(network):
    [example] = doctest.DocTestFinder(recurse=False).find(network, globs=vars(inspect.getmodule(network)))
    assert example.examples
    assert not doctest.DocTestRunner().run(example).failed


@pytest.mark.parametrize("name", BUILDERS)
def test_saved_weights_load_again(name, tmp_path):
    network = narrow(name)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    torch.manual_seed(1)
    other = BUILDERS[name]().eval()
    other.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    image = image_for(network)
    assert torch.equal(other(image), network(image))


@pytest.mark.parametrize("name", SEVERAL_VIEWS)
def test_every_view_reaches_the_output(name):
    network = narrow(name)
    image = image_for(network, 1).requires_grad_()
    network(image).abs().sum().backward()
    assert image.grad is not None
    assert all(image.grad[:, 3 * view : 3 * view + 3].any() for view in range(len(network.mpp_ratios)))


def test_initialisation_is_kaiming_normal_with_zero_biases():
    network = DMMNM3(channels=(8, 16, 32, 64, 128))
    weight = network.encoder_20x.blocks[2][2].weight
    assert weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.03)
    assert not network.encoder_20x.blocks[2][2].bias.any()
    # 128 channels to 64, 3 x 3, stride 2: 9/4 taps of each of the 128 reach an output pixel.
    up = network.decoder_5x.ups[0][0].weight
    assert up.std().item() == pytest.approx((2 / (128 * 9 / 4)) ** 0.5, rel=0.03)


@pytest.mark.parametrize("view", [0, 1, 2])
@pytest.mark.parametrize(("name", "scales"), [("DMMNS2", (1, 1, 1)), *((n, (1, 2, 4)) for n in MULTI_ENCODER)])
def test_what_a_view_shows_at_a_place_changes_the_output_there(name, scales, view):
    """Views come finest first, around one centre, each at its own scale; DMMN-S2 does not crop them."""
    network = narrow(name)
    image = image_for(network, 1, 256)
    row, column = (128 + offset // scales[view] for offset in (56, -40))
    changed = image.clone()
    changed[:, 3 * view : 3 * view + 3, row - 3 : row + 3, column - 3 : column + 3] += 3
    with torch.no_grad():
        difference = (network(changed) - network(image)).square().sum(dim=(0, 1))
    at = [(difference.sum(dim=1 - axis) * torch.arange(256)).sum() / difference.sum() for axis in (0, 1)]
    assert [float(place) for place in at] == pytest.approx([128 + 56, 128 - 40], abs=16)


def test_unpooling_puts_each_value_where_its_maximum_was():
    pooled, indices = torch.nn.functional.max_pool2d(torch.rand(2, 3, 8, 8), 2, return_indices=True)
    assert torch.equal(unpool2(pooled, indices), torch.nn.functional.max_unpool2d(pooled, indices, 2))


def test_segnet_unpools_each_level_by_its_own_indices():
    """With identity weights, the deepest level's output lies at the places of the largest input values."""
    network = SegNet(channels=(3, 3, 3))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.zeros_(module.bias)
            torch.nn.init.zeros_(module.weight)
            for channel in range(min(module.in_channels, module.out_channels)):
                module.weight.data[channel, channel, module.kernel_size[0] // 2, module.kernel_size[1] // 2] = 1
    image = torch.rand(1, 3, 16, 16)
    kept = torch.zeros_like(image)
    for block_row in range(4):
        for block_column in range(4):
            block = (slice(4 * block_row, 4 * block_row + 4), slice(4 * block_column, 4 * block_column + 4))
            for channel in range(3):
                part = image[0, channel][block]
                kept[0, channel][block] = torch.where(part == part.max(), part, 0)
    assert torch.equal(network(image)[:, :3], kept)


def test_unet_takes_any_number_of_views():
    assert UNet(channels=NARROW, in_channels=12)(torch.rand(1, 12, 32, 32)).shape == (1, 7, 32, 32)


def test_a_u_net_of_the_centre_predicts_the_centre_of_the_whole():
    whole = UNet(channels=NARROW).eval()
    centre = UNet(channels=NARROW, center=4).eval()
    centre.load_state_dict(whole.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(centre(image), whole(image)[:, :, 24:40, 24:40])
