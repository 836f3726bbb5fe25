"""The multi-level U-Net and HookNet against counts, sizes and places worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.networks import EfficientNetUNet, HookNet, MultiLevelUNet
from common.networks.efficientnet import EfficientNetEncoder
from common.networks.multi_level_unet import Merge

NARROW = (8, 6, 6, 4, 4)


def parameters(build, **arguments) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build(**arguments).parameters())


def test_encoders_have_as_many_weights_as_the_published_network_without_its_head():
    # 19,341,616 with classifier, of which 448 · 1792 + 2 · 1792 are the head's and 1792 · 1000 + 1000 the classifier's.
    assert parameters(EfficientNetEncoder) == 19_341_616 - 448 * 1792 - 2 * 1792 - 1792 * 1000 - 1000 == 16_742_216
    assert parameters(EfficientNetEncoder, stages=5) == 3_635_984
    assert EfficientNetEncoder("efficientnet-b4").channels == [48, 32, 56, 160, 448]


def test_maps_of_the_encoder_have_the_strides_of_their_channels():
    with torch.device("meta"):
        maps = EfficientNetEncoder("efficientnet-b4")(torch.empty(1, 3, 512, 512))
    assert [512 // m.shape[2] for m in maps] == [2, 4, 8, 16, 32]
    assert [m.shape[1] for m in maps] == [48, 32, 56, 160, 448]


def test_the_multi_level_u_net_has_25_million_weights():
    assert parameters(MultiLevelUNet) == 24_792_817
    assert parameters(MultiLevelUNet, merged_channels=256) == 23_955_441


@pytest.mark.parametrize(("ratio", "widths"), [(4, [64, 256, 512]), (8, [32, 128, 256, 512]), (2, [128, 512])])
def test_the_merge_takes_the_coarse_map_of_the_fine_maps_micrometres_per_pixel(ratio, widths):
    """Stride 16 of the fine view is stride 16 / ratio of the coarse one, which has ratio times as many pixels."""
    with torch.device("meta"):
        network = MultiLevelUNet(ratio=ratio)
        seen = []
        network.merges[0].register_forward_hook(lambda _, given, __: seen.extend(part.shape for part in given))
        network(torch.empty(1, 6, 512, 512))
    assert seen == [(1, 160, 32, 32), (1, widths[0], 32 * ratio, 32 * ratio)]
    convolutions = [m for m in network.merges[0].compress.modules() if isinstance(m, nn.Conv2d)]
    assert [widths[0], *(m.out_channels for m in convolutions)] == widths


@pytest.mark.parametrize("merge", ["compress", "crop"])
def test_compressing_merges_all_of_the_coarse_field_and_cropping_its_centre(merge):
    coarse = torch.rand(1, 3, 32, 32, requires_grad=True)
    Merge(5, 3, 12, 2, merge).eval()(torch.rand(1, 5, 8, 8), coarse).sum().backward()
    assert coarse.grad is not None
    reached = coarse.grad[0].abs().sum(dim=0) > 0
    wanted = torch.ones(32, 32, dtype=torch.bool)
    if merge == "crop":
        wanted[:] = False
        wanted[12:20, 12:20] = True
    # A ReLU may be shut over some pixels, never open where nothing is merged.
    assert not (reached & ~wanted).any()
    assert (reached & wanted).sum() > 0.5 * wanted.sum()


class Places(nn.Module):
    """A head that returns every pixel's row and column in fine pixels from the common centre."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        height, width = features.shape[2:]
        down, across = ((torch.arange(side) + 0.5 - side / 2) * self.step for side in (height, width))
        return torch.stack([down[:, None].expand(height, width), across.expand(height, width)])[None]


class Second(nn.Module):
    """A head that returns the second half of the channels."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features[:, features.shape[1] // 2 :]


def test_the_coarse_output_is_laid_where_the_fine_view_shows_it():
    network = MultiLevelUNet(2, "efficientnet-b0", decoder_channels=NARROW, merged_channels=8).eval()
    network.coarse_head, network.fine_head, network.final = Places(4), Places(1), Second()
    final, fine, _ = network.forward_branches(torch.rand(1, 6, 128, 128))
    # Bilinear interpolation has no values beyond the crop's outermost pixels.
    inner = (..., slice(4, -4), slice(4, -4))
    assert torch.allclose(final[inner], fine[inner], atol=1e-3)


def test_three_merges_need_coarse_maps_as_fine_as_the_fine_decoders():
    assert len(MultiLevelUNet(2, "efficientnet-b0", decoder_channels=NARROW, merges=3, merged_channels=8).merges) == 3
    with pytest.raises(ValueError, match="with ratio 8 at most 2"):
        MultiLevelUNet(ratio=8, merges=3)
    with pytest.raises(ValueError, match="ratio must be one of 2, 4, 8, 16"):
        MultiLevelUNet(ratio=3)
    with pytest.raises(ValueError, match="encoder must be one of efficientnet-b0"):
        EfficientNetUNet(encoder="resnet50")


def test_hooknet_loses_the_pixels_of_its_valid_convolutions():
    network = HookNet().eval()
    with torch.no_grad():
        assert [tuple(b.shape) for b in network.forward_branches(torch.rand(1, 6, 284, 284))] == [(1, 3, 70, 70)] * 2
        assert network(torch.rand(1, 6, 316, 284)).shape == (1, 3, 102, 70)
    # At 300 the hook would be half a pixel off.
    for side in (256, 282, 288, 28, 300):
        with pytest.raises(ValueError, match="284, 316, 348|multiples of 4"):
            network(torch.rand(1, 6, side, side))


def test_hooknet_has_the_filters_of_its_released_code():
    network = HookNet()
    assert [block[0].out_channels for block in network.fine.encoder] == [16, 32, 64, 128]
    assert network.fine.bottleneck[0].out_channels == 160
    assert [block[0].out_channels for block in network.fine.decoder] == [128, 64, 32, 16]


@pytest.mark.parametrize(("ratio", "filters", "side"), [(16, 16, 70), (4, 64, 22)])
def test_hooknet_hooks_the_map_of_the_bottlenecks_micrometres_per_pixel(ratio, filters, side):
    """The bottleneck has stride 16. With a ratio of 16, the coarse view's finest map has the same µm/px."""
    network = HookNet(ratio=ratio).eval()
    with torch.no_grad():
        _, maps = network.coarse(torch.rand(1, 3, 284, 284), None)
        assert maps[network.hook].shape == (1, filters, side, side)
        assert network.fine.ups[0][0].in_channels == 160 + filters
        assert network(torch.rand(1, 6, 284, 284)).shape == (1, 3, 70, 70)


def test_hooknets_weights_all_learn_scripts_and_exports():
    network = HookNet(filters=2)
    image = torch.rand(2, 6, 284, 284)
    sum(branch.square().mean() for branch in network.forward_branches(image)).backward()
    assert not [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    network.eval()
    with torch.no_grad():
        expected = network(image)
        assert torch.allclose(torch.jit.script(network)(image), expected, atol=1e-5)
        assert torch.allclose(torch.export.export(network, (image,)).module()(image), expected, atol=1e-5)
