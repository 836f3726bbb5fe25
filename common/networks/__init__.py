"""Networks and their weights: one file per method over shared blocks. Imports no other room."""

from .base import SegmentationNetwork
from .batch_normalisation import share_batch_normalisation
from .branches import AllBranches
from .da_refinenet import DARefineNet, RefineNet
from .dmmn import DMMNM2S, DMMNM3, DMMNMS, DMMNS2
from .efficientnet import EfficientNetUNet
from .encoder_decoder import EncoderDecoder, MultiResolutionEncoderDecoder
from .hooknet import HookNet
from .mrn import MRN, MultiResolution
from .multi_level_unet import MultiLevelUNet
from .released import load_released_dmmn
from .resnet import freeze_batch_normalisation
from .segnet import SegNet
from .unet import UNet

NETWORKS: dict[str, type[SegmentationNetwork]] = {
    network.__name__: network for network in (UNet, SegNet, DMMNS2, DMMNMS, DMMNM2S, DMMNM3)
}

__all__ = [
    "DMMNM2S",
    "DMMNM3",
    "DMMNMS",
    "DMMNS2",
    "MRN",
    "NETWORKS",
    "AllBranches",
    "DARefineNet",
    "EfficientNetUNet",
    "EncoderDecoder",
    "HookNet",
    "MultiLevelUNet",
    "MultiResolution",
    "MultiResolutionEncoderDecoder",
    "RefineNet",
    "SegNet",
    "SegmentationNetwork",
    "UNet",
    "freeze_batch_normalisation",
    "load_released_dmmn",
    "share_batch_normalisation",
]
