"""Synthetic slides with known labels."""

from .bach import BACH, BACH_CLASSES, write_bach
from .biopsy import BIOPSY_CLASSES, DIAGNOSES, biopsy_recipe, write_breast_biopsies
from .camelyon import write_camelyon16
from .multi_stain import MULTI_STAIN_CLASSES, write_multi_stain
from .recipe import BREAST, LYMPH_NODE, RECIPES, Core, Ground, Nuclei, Population, Recipe, Stain, Texture
from .slide import PhantomFiles, write_phantom, write_phantoms

__all__ = [
    "BACH",
    "BACH_CLASSES",
    "BIOPSY_CLASSES",
    "BREAST",
    "DIAGNOSES",
    "LYMPH_NODE",
    "MULTI_STAIN_CLASSES",
    "RECIPES",
    "Core",
    "Ground",
    "Nuclei",
    "PhantomFiles",
    "Population",
    "Recipe",
    "Stain",
    "Texture",
    "biopsy_recipe",
    "write_bach",
    "write_breast_biopsies",
    "write_camelyon16",
    "write_multi_stain",
    "write_phantom",
    "write_phantoms",
]
