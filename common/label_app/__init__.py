"""The MONAI Label app for whole slides: run any of our bundles on a region or a slide, and train on annotations.

It runs in MONAI Label's own environment (``requirements-monailabel.txt``) and is started by ``start.py``.
"""
