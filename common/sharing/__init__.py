"""Bundles that stand on their own: exported, checked, and unpacked safely."""

from typing import TYPE_CHECKING, Any

from .archive import BundleFileError, unpacked
from .isolation import TrialLimits
from .verify import verify_bundle

if TYPE_CHECKING:
    from .export import ExportOptions, export_bundle

__all__ = ["BundleFileError", "ExportOptions", "TrialLimits", "export_bundle", "unpacked", "verify_bundle"]


def __getattr__(name: str) -> Any:
    """Import what exports only when it is asked for: it loads PyTorch and MONAI, and a bundle is refused before."""
    if name not in ("ExportOptions", "export_bundle"):
        raise AttributeError(name)
    from . import export

    return getattr(export, name)
