"""A style-based generator: changes the appearance of a patch and keeps its structure."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

# With at most MAX_BLOCKS, no input pixel MARGIN or more away affects an output pixel.
MARGIN, MAX_BLOCKS = 64, 6


class ModulatedConv(nn.Module):
    """A convolution with inputs scaled by the style, outputs normalised to unit variance, and added noise.

    Unlike the first StyleGAN's normalisation of activations, it takes no means over the patch, so that a slide can be
    processed tile by tile.

    Source: Karras et al. 2020 (StyleGAN2), section 2.2.
    """

    def __init__(self, in_channels: int, out_channels: int, styles: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3) / (9 * in_channels) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise = nn.Parameter(torch.zeros(out_channels))
        self.style = nn.Linear(styles, in_channels)
        nn.init.zeros_(self.style.weight)
        nn.init.ones_(self.style.bias)

    def forward(self, features: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        scale = self.style(style)
        squares = self.weight.square().sum(dim=(2, 3))
        shrink = torch.rsqrt(scale.square() @ squares.T + 1e-8)
        made = functional.conv2d(features * scale[:, :, None, None], self.weight, padding=1) * shrink[:, :, None, None]
        made = made + self.bias[None, :, None, None]
        noise = torch.randn(made.shape[0], 1, made.shape[2], made.shape[3], device=made.device, dtype=made.dtype)
        return made + self.noise[None, :, None, None] * noise


class StyleBlock(nn.Module):
    """A residual block of two modulated convolutions."""

    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.first = ModulatedConv(channels, channels, styles)
        self.second = ModulatedConv(channels, channels, styles)

    def forward(self, features: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        changed = functional.leaky_relu(self.first(features, style), 0.2)
        return features + self.second(changed, style)


class StyleGenerator(nn.Module):
    """Generator of patches in another style: an encoder, style-modulated residual blocks and a decoder.

    A mapping network turns random numbers into the style. The output is the patch plus a change; before training it is
    the patch itself.

    Args:
        channels: channels of the finest level; the blocks have four times as many.
        blocks: number of residual blocks, at most six.
        latent: length of the random vector.
        styles: length of the style vector.

    Shape:
        image ``(B, 3, H, W)`` in [0, 1], H and W multiples of 4, and optionally random numbers ``(B, latent)`` -> the
        image's shape, in [0, 1].

    Raises:
        ValueError: fewer than one block, or more than six.

    Source: Modi et al. 2024, "StyleGAN augmentations", after Karras et al. 2019; the paper gives no architecture.

    Example::

        image = StyleGenerator(channels=32, blocks=4)(torch.rand(2, 3, 256, 256))
    """

    def __init__(self, channels: int = 32, blocks: int = 4, latent: int = 64, styles: int = 64) -> None:
        super().__init__()
        if not 1 <= blocks <= MAX_BLOCKS:
            raise ValueError(f"blocks must be 1 to {MAX_BLOCKS}, not {blocks}")
        self.latent = latent
        widths = (channels, 2 * channels, 4 * channels)
        self.mapping = nn.Sequential(
            nn.Linear(latent, styles), nn.LeakyReLU(0.2), nn.Linear(styles, styles), nn.LeakyReLU(0.2)
        )
        self.encoder = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(widths[0], widths[1], 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(widths[1], widths[2], 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.blocks = nn.ModuleList(StyleBlock(widths[2], styles) for _ in range(blocks))
        self.ups = nn.ModuleList(
            [ModulatedConv(widths[2], widths[1], styles), ModulatedConv(widths[1], widths[0], styles)]
        )
        self.colors = nn.Conv2d(widths[0] + 3, 3, 3, padding=1)
        nn.init.zeros_(self.colors.weight)
        assert self.colors.bias is not None
        nn.init.zeros_(self.colors.bias)

    def forward(self, image: torch.Tensor, latent: torch.Tensor | None = None) -> torch.Tensor:
        if image.shape[2] % 4 or image.shape[3] % 4:
            raise ValueError(f"image is {image.shape[2]} x {image.shape[3]} pixels; both must be multiples of 4")
        if latent is None:
            latent = torch.randn(image.shape[0], self.latent, device=image.device, dtype=image.dtype)
        style = self.mapping(latent)
        current = self.encoder(image)
        for block in self.blocks:
            current = block(current, style)
        for up in self.ups:
            enlarged = functional.interpolate(current, scale_factor=2.0, mode="nearest")
            current = functional.leaky_relu(up(enlarged, style), 0.2)
        odds = torch.logit(image.clamp(1e-3, 1 - 1e-3))
        return torch.sigmoid(odds + self.colors(torch.cat([current, image], dim=1)))
