"""Bundles that stand on their own: exported, checked, and unpacked safely."""

from .archive import BundleFileError, unpacked
from .export import ExportOptions, export_bundle
from .isolation import TrialLimits
from .verify import verify_bundle

__all__ = ["BundleFileError", "ExportOptions", "TrialLimits", "export_bundle", "unpacked", "verify_bundle"]
