"""The package that the bundles share: slides, annotations, data, networks, losses, metrics, the whole-slide engine."""

import sys

from .caches import use_writable_cache
from .renamed import MovedModules

# Defined here, not read from the installed package: exported bundles carry this module but have no package.
__version__ = "0.1.0"

# Before anything imports zarr.
use_writable_cache()
# Last, so that it is asked only for modules that are not there.
sys.meta_path.append(MovedModules())
