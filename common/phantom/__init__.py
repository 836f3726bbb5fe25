"""Synthetic slides with known labels."""

from .camelyon import write_camelyon16
from .recipe import BREAST, LYMPH_NODE, RECIPES, Ground, Nuclei, Population, Recipe, Stain, Texture
from .slide import PhantomFiles, write_phantom, write_phantoms

__all__ = [
    "BREAST",
    "LYMPH_NODE",
    "RECIPES",
    "Ground",
    "Nuclei",
    "PhantomFiles",
    "Population",
    "Recipe",
    "Stain",
    "Texture",
    "write_camelyon16",
    "write_phantom",
    "write_phantoms",
]
