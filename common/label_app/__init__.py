"""The MONAI Label app for whole slides: any of our bundles, on a region or a whole slide, and training on what is
annotated there.

It runs in MONAI Label's own environment (``requirements-monailabel.txt``) and is started by ``start.py``.
"""
