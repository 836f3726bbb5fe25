"""Which folders become packages; everything else is in pyproject.toml, which cannot say both at once."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["common*"]), "multimag"], package_dir={"multimag": "bundles"})
