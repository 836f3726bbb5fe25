"""Synthetic slides with known labels."""

from .recipe import BREAST, RECIPES, Ground, Nuclei, Population, Recipe, Stain, Texture
from .slide import PhantomFiles, write_phantom, write_phantoms

__all__ = [
    "BREAST",
    "RECIPES",
    "Ground",
    "Nuclei",
    "PhantomFiles",
    "Population",
    "Recipe",
    "Stain",
    "Texture",
    "write_phantom",
    "write_phantoms",
]
