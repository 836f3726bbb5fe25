"""Datalists, patch index, class balancing and data sets: from files to the items that a network is trained on.

Whatever opens a slide or an annotation during training is here, transforms included.
"""

from .bach import Bach, datalist_from_bach
from .balance import balance_by_elastic_deformation, plot_class_balance
from .camelyon import Camelyon16, datalist_from_camelyon16
from .checks import check_validation, check_views
from .choice import PatchChoice, PatchesPerClass
from .datalist import (
    all_sections,
    check_entries,
    filled_sections,
    load_datalist,
    load_sections,
    one_per_slide,
    slide_items,
)
from .dataset import MultiMagnificationPatchDataset, SlideDataset
from .draws import Draw, NumberedDraws
from .folders import datalist_from_folders
from .folds import write_folds
from .index import PatchIndex, TargetGrid, build_patch_index
from .load import LoadMultiMagnificationPatchd
from .normalize import NormalizeStainsd
from .output_names import output_name, output_names
from .packing import PackedPatches
from .sampler import ClassCycleSampler
from .store import SlideStore
from .styled import RandStyledSlided
from .tissue_patches import slide_entries

__all__ = [
    "Bach",
    "Camelyon16",
    "ClassCycleSampler",
    "Draw",
    "LoadMultiMagnificationPatchd",
    "MultiMagnificationPatchDataset",
    "NormalizeStainsd",
    "NumberedDraws",
    "PackedPatches",
    "PatchChoice",
    "PatchIndex",
    "PatchesPerClass",
    "RandStyledSlided",
    "SlideDataset",
    "SlideStore",
    "TargetGrid",
    "all_sections",
    "balance_by_elastic_deformation",
    "build_patch_index",
    "check_entries",
    "check_validation",
    "check_views",
    "datalist_from_bach",
    "datalist_from_camelyon16",
    "datalist_from_folders",
    "filled_sections",
    "load_datalist",
    "load_sections",
    "one_per_slide",
    "output_name",
    "output_names",
    "plot_class_balance",
    "slide_entries",
    "slide_items",
    "write_folds",
]
