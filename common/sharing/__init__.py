"""Bundles that stand on their own: exported, checked, and unpacked safely."""

from typing import TYPE_CHECKING, Any

from .archive import BundleFileError, unpacked
from .isolation import TrialLimits
from .verify import verify_bundle

if TYPE_CHECKING:
    from .export import ExportOptions, export_bundle

__all__ = ["BundleFileError", "ExportOptions", "TrialLimits", "export_bundle", "unpacked", "verify_bundle"]


def __getattr__(name: str) -> Any:
    """Import the export only on demand: it loads PyTorch and MONAI, and a bad bundle is refused before that."""
    if name not in ("ExportOptions", "export_bundle"):
        raise AttributeError(name)
    from . import export

    return getattr(export, name)
