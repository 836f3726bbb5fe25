"""Turn slides and annotations into the items that a network is trained on.

Datalists, patch index, class balancing and datasets are here, and every transform that opens a slide or an annotation.
"""

from ..renamed import renamed_in
from .bach import Bach, datalist_from_bach
from .balance import balance_by_elastic_deformation, plot_class_balance
from .camelyon import Camelyon16, datalist_from_camelyon16
from .checks import check_validation, check_views
from .datalist import (
    check_entries,
    load_datalist,
    load_sections,
    merge_by_slide,
    section_names,
    slide_items,
    standard_sections,
)
from .dataset import MultiMagnificationPatchDataset, SlideDataset
from .draws import Draw, SeededDistributedSampler
from .folders import datalist_from_folders
from .folds import write_folds
from .index import PatchIndex, TargetGrid, build_patch_index
from .load import LoadMultiMagnificationPatchd
from .normalize import NormalizeStainsd
from .output_names import output_name, output_names
from .patch_cache import PatchCache
from .sampler import ClassCycleSampler
from .store import SlideStore
from .styled import RandStyledSlided
from .subsets import PatchesPerClass, PatchSubset
from .tissue_patches import slide_entries

__all__ = [
    "Bach",
    "Camelyon16",
    "ClassCycleSampler",
    "Draw",
    "LoadMultiMagnificationPatchd",
    "MultiMagnificationPatchDataset",
    "NormalizeStainsd",
    "PatchCache",
    "PatchIndex",
    "PatchSubset",
    "PatchesPerClass",
    "RandStyledSlided",
    "SeededDistributedSampler",
    "SlideDataset",
    "SlideStore",
    "TargetGrid",
    "balance_by_elastic_deformation",
    "build_patch_index",
    "check_entries",
    "check_validation",
    "check_views",
    "datalist_from_bach",
    "datalist_from_camelyon16",
    "datalist_from_folders",
    "load_datalist",
    "load_sections",
    "merge_by_slide",
    "output_name",
    "output_names",
    "plot_class_balance",
    "section_names",
    "slide_entries",
    "slide_items",
    "standard_sections",
    "write_folds",
]

__getattr__ = renamed_in(__name__)
