"""Networks and their weights: one file per method over shared blocks. Imports no other room."""

from ..renamed import renamed_in
from .base import SegmentationNetwork
from .batch_norm import sync_batch_norm
from .convert_released import load_released_dmmn
from .da_refinenet import DARefineNet, RefineNet
from .dmmn import DMMNM2S, DMMNM3, DMMNMS, DMMNS2
from .efficientnet import EfficientNetUNet
from .encoder_decoder import EncoderDecoder, MultiResolutionEncoderDecoder
from .hooknet import HookNet
from .mrn import MRN, MultiResolution
from .multi_level_unet import MultiLevelUNet
from .multi_output import MultiOutput
from .resnet import freeze_batch_norm
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
    "DARefineNet",
    "EfficientNetUNet",
    "EncoderDecoder",
    "HookNet",
    "MultiLevelUNet",
    "MultiOutput",
    "MultiResolution",
    "MultiResolutionEncoderDecoder",
    "RefineNet",
    "SegNet",
    "SegmentationNetwork",
    "UNet",
    "freeze_batch_norm",
    "load_released_dmmn",
    "sync_batch_norm",
]

__getattr__ = renamed_in(__name__)
