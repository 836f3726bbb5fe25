"""U-Net as Ho et al. 2021 use it, the single-magnification baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..renamed import renamed_argument
from .base import SegmentationNetwork, center_crop
from .blocks import RECEPTIVE_RADIUS, Decoder, Encoder, head

WIDTHS = (64, 128, 256, 512, 1024)


class UNet(SegmentationNetwork):
    """U-Net with same padding and 3 x 3 transposed convolutions, without normalisation.

    Args:
        out_channels: output channels, channel 0 ("unlabelled") included.
        channels: encoder widths, finest level first.
        in_channels: 3 per field of view.
        center: predict only the central 1/``center`` of height and width, which has context on every side.

    Shape:
        image ``(B, in_channels, H, W)`` in [0, 1]; H, W multiples of 16 -> logits ``(B, out_channels, h, w)``,
        h = H / center, w = W / center.

    Example:
        >>> network = UNet(out_channels=3, channels=(4, 8, 16))
        >>> network(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 3, 64, 64])

    Source: Ho et al. 2021, Fig. 4a; 34,550,663 parameters (Table 2) with ``out_channels=7``.
    """

    @renamed_argument("num_classes", "out_channels", added=1)
    def __init__(
        self,
        *,
        out_channels: int = 7,
        channels: Sequence[int] = WIDTHS,
        in_channels: int = 3,
        center: int = 1,
    ) -> None:
        super().__init__()
        self.in_channels, self.center = in_channels, center
        self.size_divisor = 2 ** (len(channels) - 1)
        if in_channels == 3:
            self.alignment, self.receptive_margin = self.size_divisor, RECEPTIVE_RADIUS * self.size_divisor
        self.encoder = Encoder(in_channels, channels)
        self.decoder = Decoder(channels)
        self.head = head(channels[0], channels[0], out_channels)
        self.initialise()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # All views enter the one encoder together.
        self.check_input(image)
        logits = self.forward_with_context(image, [])
        return center_crop(logits, image.shape[2] // self.center, image.shape[3] // self.center)

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        return self.head(self.decoder(self.encoder(finest))[-1])
