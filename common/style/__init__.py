"""Style transfer: slides of one source in the style (stain, scanner, laboratory) of another."""

from .generator import StyleGenerator
from .pairs import StylePairs
from .restyle import SlideRestyler
from .training import GreySSIMLoss, PatchAdversarial, PreparePair, StyleDiscriminatorInferer, StyleGeneratorInferer
from .transfer import StyleTransfer

__all__ = [
    "GreySSIMLoss",
    "PatchAdversarial",
    "PreparePair",
    "SlideRestyler",
    "StyleDiscriminatorInferer",
    "StyleGenerator",
    "StyleGeneratorInferer",
    "StylePairs",
    "StyleTransfer",
]
