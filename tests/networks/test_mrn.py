"""Multi-resolution networks against the paper's counts and hand-made maps."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import FlexibleUNet
from torch import nn

from common.networks import MRN
from common.networks.mrn import MultiResolution

WIDTHS = (4, 6, 8, 10, 12)


def millions(**arguments) -> float:
    with torch.device("meta"):
        network = MRN(**arguments)
    return round(sum(p.numel() for p in network.parameters()) / 1e6, 2)


@pytest.mark.parametrize(
    ("base", "counts"),
    [(8, (0.49, 1.46, 1.99, 3.30)), (16, (1.94, 5.84, 7.94, 13.17)), (64, (31.05, 93.19, 126.75, 210.54))],
)
def test_parameters_are_those_of_the_topology_in_figure_2(base, counts):
    channels = [base * 2**level for level in range(5)]
    found = (
        millions(resolutions=1, channels=channels),
        millions(channels=channels),
        millions(upsample="transposed", channels=channels),
        millions(upsample="transposed_single", channels=channels),
    )
    assert found == pytest.approx(counts, abs=0.006)


def test_figure_2_has_as_many_layers_of_each_kind():
    network = MRN(resolutions=2, upsample="transposed")
    modules = list(network.modules())
    convolutions = [m for m in modules if isinstance(m, nn.Conv2d)]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) == 2 * 14
    # Five fusions and the output.
    assert sum(m.kernel_size == (1, 1) for m in convolutions) == 6
    # Four of the decoder, five of the crop-and-resize steps.
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in modules) == 4 + 5


class Itself(nn.Module):
    """An encoder of one level that returns the image."""

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [image]


class First(nn.Module):
    """A decoder that returns its one map."""

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        return maps[0]


def position(view: int, size: int) -> torch.Tensor:
    """Return every pixel's row and column in finest pixels from the common centre."""
    along = (torch.arange(size) + 0.5 - size / 2) * 2**view
    return torch.stack([along[:, None].expand(size, size), along.expand(size, size), torch.zeros(size, size)])


@pytest.mark.parametrize("view", [0, 1, 2, 3])
@pytest.mark.parametrize("upsample", ["bilinear", "transposed", "transposed_single"])
def test_what_a_view_shows_is_laid_where_the_finest_one_shows_it(view, upsample):
    size = 64
    network = MultiResolution([Itself() for _ in range(4)], First(), [3], [1], upsample).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.ConvTranspose2d):
                # Every output pixel is the input pixel it lies in.
                module.weight.copy_(torch.eye(3)[:, :, None, None].expand(module.weight.shape))
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Conv2d):
                nn.init.zeros_(module.bias)
                module.weight.zero_()
                module.weight[:, 3 * view : 3 * view + 3, 0, 0] = torch.eye(3)
        # Kept positive: the transposed convolutions end in a ReLU.
        image = torch.cat([position(j, size) for j in range(4)])[None] + 1000
        found = network(image)[0] - 1000
    wanted = position(0, size)
    if upsample == "bilinear":
        inner = (slice(2), slice(8, -8), slice(8, -8))
        assert torch.allclose(found[inner], wanted[inner], atol=0.05)
    else:
        assert torch.allclose(found[:2], (wanted[:2] / 2**view).floor() * 2**view + 2**view / 2, atol=0.05)


def activations(resolutions: int) -> int:
    """Return the number of values that a forward pass keeps for the backward pass."""
    network = MRN(resolutions=resolutions, channels=WIDTHS)
    found = []
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _, __, output: found.append(output.numel()))
    network(torch.rand(1, 3 * resolutions, 256, 256))
    return sum(found)


def test_memory_grows_by_the_same_amount_with_every_resolution():
    counts = [activations(resolutions) for resolutions in (2, 3, 4)]
    assert counts[2] - counts[1] == counts[1] - counts[0] > 0


def test_sizes_whose_crops_are_not_whole_are_refused_with_one_that_is():
    with pytest.raises(ValueError, match="multiples of 256"):
        MRN(channels=WIDTHS)(torch.rand(1, 12, 128, 128))
    assert MRN(resolutions=3, channels=WIDTHS)(torch.rand(1, 9, 128, 128)).shape == (1, 1, 128, 128)
    with pytest.raises(ValueError, match="upsample must be one of bilinear, transposed"):
        MRN(upsample="nearest")


class FlexibleDecoder(nn.Module):
    """Decoder and head of MONAI's FlexibleUNet."""

    def __init__(self, network: FlexibleUNet) -> None:
        super().__init__()
        self.decoder, self.head, self.skip = network.decoder, network.segmentation_head, network.skip_connect

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        return self.head(self.decoder(maps, self.skip))


def test_an_encoder_and_decoder_of_monai_become_multi_resolution():
    networks = [FlexibleUNet(in_channels=3, out_channels=2, backbone="resnet18") for _ in range(2)]
    network = MultiResolution(
        [n.encoder for n in networks],
        FlexibleDecoder(networks[0]),
        channels=[64, 64, 128, 256, 512],
        strides=[2, 4, 8, 16, 32],
        upsample="transposed",
    )
    output = network(torch.rand(2, 6, 128, 128))
    assert output.shape == (2, 2, 128, 128)
    output.square().mean().backward()
    for encoder in network.encoders:
        assert encoder.conv1.weight.grad.any()


def test_the_logits_are_normalised_on_request():
    torch.manual_seed(0)
    images = torch.rand(4, 6, 64, 64)
    plain = MRN(resolutions=2, channels=(4, 6, 8))
    normed = MRN(resolutions=2, channels=(4, 6, 8), output_norm=True)
    # Weights of the one fit the other, but for the normalisation's own.
    missing, unexpected = normed.load_state_dict(plain.state_dict(), strict=False)
    assert all("decoder.norm" in name for name in missing)
    assert not unexpected
    with torch.no_grad():
        logits = plain.train()(images)
        expected = (logits - logits.mean()) / (logits.var(unbiased=False) + 1e-5).sqrt()
        assert torch.allclose(normed.train()(images), expected, atol=1e-4)
