"""Superpixels of regions: SLIC, features, labels, and segmentation with a support vector machine."""

from .baseline import SuperpixelSVM
from .features import superpixel_features
from .labels import majority_labels
from .region import Region
from .segmentation import Superpixels, superpixels

__all__ = ["Region", "SuperpixelSVM", "Superpixels", "majority_labels", "superpixel_features", "superpixels"]
