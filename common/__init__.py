"""What the bundles share: slides, annotations, data, networks, losses, metrics and the whole-slide engine."""

from .caches import use_writable_cache

# Said here, not by the installed package: exported bundles carry this and have no package.
__version__ = "0.1.0"
# Before anything imports zarr.
use_writable_cache()
