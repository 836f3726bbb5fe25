"""Names of the previous version, so that configs written for it still run. They go with the next version.

A module that moved is found by its old name. A class that moved or was renamed is found in the module that had it.
Each use is named in a warning with the name to write instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGE = __package__
# Old module -> the module that now has its public names; both below this package.
MODULES = {
    "activations": "reports.activations",
    "augmentation_report": "reports.augmentation",
    "branch_losses": "losses",
    "class_curves": "metrics",
    "cohort.account": "cohort.report",
    "cohort.crew": "cohort.local_workers",
    "cohort.patience": "cohort.retry",
    "cohort.ray_crew": "cohort.ray_workers",
    "cohort.staging": "cohort.download",
    "comparison": "evaluation.comparison",
    "features": "reports.features",
    "fitted": "superpixels.estimators",
    "handlers": "training",
    "html_report": "reports.html",
    "inspection_report": "reports.inspection",
    "iterative": "training",
    "lesions": "evaluation.froc",
    "restart": "training",
    "roc": "metrics",
    "roc_report": "reports.roc",
    "stain_normalization": "data.stain_normalization",
    "tissue_patches": "data.tissue_patches",
    "weights": "networks.checkpoints",
}
# Old name in a module that still exists, or in one of the above -> its new place.
NAMES = {
    "evaluation.score_slide": "evaluation.slide.score_slide",
    "branch_losses.BranchesLoss": "losses.MultiOutputLoss",
    "cohort.account.Account": "cohort.report.CohortReport",
    "cohort.account.shown_failures": "cohort.report.format_failures",
    "cohort.crew.LocalMember": "cohort.local_workers.LocalWorker",
    "cohort.crew.Member": "cohort.local_workers.WorkerHandle",
    "cohort.patience.GivenUpError": "cohort.retry.RetriesExhaustedError",
    "cohort.patience.is_full": "cohort.retry.is_disk_full",
    "cohort.patience.passes": "cohort.retry.is_retryable",
    "cohort.patience.patiently": "cohort.retry.retry",
    "cohort.ray_crew.RayMember": "cohort.ray_workers.RayWorker",
    "cohort.ray_crew.workers_of": "cohort.ray_workers.plan_workers",
    "cohort.staging.ChangedError": "cohort.download.SlideReplacedError",
    "cohort.staging.Source": "cohort.download.SlideSource",
    "cohort.staging.StagingError": "cohort.download.DownloadError",
    "cohort.staging.look_up": "cohort.download.stat_slide",
    "cohort.staging.staged": "cohort.download.local_copy",
    "inference.Block": "maps.Block",
    "inference.Canvas": "maps.MapStore",
    "inference.Options": "inference.InferenceOptions",
    "inference.Plan": "maps.TileGrid",
    "inference.Segmented": "inference.SlideMaps",
    "losses.class_weights": "data.class_weights.class_weights",
    "metrics.FirstOutput": "metrics.PrimaryOutput",
    "networks.AllBranches": "networks.MultiOutput",
    "networks.share_batch_normalisation": "networks.sync_batch_norm",
    "reports.ScoreReport": "reports.scores.ScoreReport",
    "transforms.LoadMultiMagnificationPatchd": "data.LoadMultiMagnificationPatchd",
    "transforms.NormalizeStainsd": "data.NormalizeStainsd",
    "transforms.RandStyledSlided": "data.RandStyledSlided",
}


def renamed_in(module: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module that had other names before.

    Args:
        module: the module's ``__name__``.
    """
    return partial(_renamed, module.removeprefix(f"{_PACKAGE}."))


def _renamed(module: str, name: str) -> Any:
    old = f"{module}.{name}"
    new = NAMES.get(old) or (f"{MODULES[module]}.{name}" if module in MODULES else None)
    if new is None or name.startswith("__"):
        raise AttributeError(f"module {_PACKAGE}.{module} has no attribute {name}")
    place, attribute = new.rsplit(".", 1)
    found = getattr(import_module(f"{_PACKAGE}.{place}"), attribute)
    warnings.warn(f"{_PACKAGE}.{old} is now {_PACKAGE}.{new}", FutureWarning, stacklevel=3)
    return found


class _MovedModule(Loader):
    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__getattr__ = renamed_in(module.__name__)  # type: ignore[method-assign]


class MovedModules(MetaPathFinder):
    """Finds modules by the names that they had in the previous version."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.removeprefix(f"{_PACKAGE}.") in MODULES and fullname.startswith(f"{_PACKAGE}."):
            return ModuleSpec(fullname, _MovedModule())
        return None
