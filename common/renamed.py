"""Names of the previous version, so that configs written for it still run. The next version removes them.

A module that moved is found by its old name. A class that moved or was renamed is found in the module that had it.
Each use is named in a warning with the name to write instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial, wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar, cast

_PACKAGE = __package__
_Function = TypeVar("_Function", bound=Callable[..., Any])
# Old module -> the module that now has its public names; both below this package.
MODULES = {
    "data.processes": "data.distributed",
    "sharing.trial": "sharing.smoke_slide",
    "slides.outside": "slides.padding",
    "transforms.chosen": "transforms",
    "transforms.geometry": "transforms",
    "transforms.optics": "transforms",
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
    "data.choice": "data.subsets",
    "data.packing": "data.patch_cache",
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
    "branch_losses.BranchesLoss": "losses.MultiOutputLoss",
    "classes.LEFT_OUT": "classes.IGNORE",
    "classes.NO_CLASS": "classes.NO_FALLBACK",
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
    "data.NumberedDraws": "data.SeededDistributedSampler",
    "data.PackedPatches": "data.PatchCache",
    "data.PatchChoice": "data.PatchSubset",
    "data.all_sections": "data.section_names",
    "data.choice.PatchChoice": "data.PatchSubset",
    "data.filled_sections": "data.standard_sections",
    "data.one_per_slide": "data.merge_by_slide",
    "data.packing.PackedPatches": "data.PatchCache",
    "diagnosis.Task": "diagnosis.DiagnosisTask",
    "evaluation.score_slide": "evaluation.slide.score_slide",
    "files.written_whole": "files.atomic_write",
    "inference.Block": "maps.Block",
    "inference.Canvas": "maps.MapStore",
    "inference.Options": "inference.InferenceOptions",
    "inference.Plan": "maps.TileGrid",
    "inference.Segmented": "inference.SlideMaps",
    "losses.class_weights": "data.class_weights.class_weights",
    "metrics.FirstOutput": "metrics.PrimaryOutput",
    "networks.AllBranches": "networks.MultiOutput",
    "networks.checkpoints.load_trunk": "networks.checkpoints.load_backbone",
    "networks.freeze_batch_normalisation": "networks.freeze_batch_norm",
    "networks.share_batch_normalisation": "networks.sync_batch_norm",
    "reports.ScoreReport": "reports.scores.ScoreReport",
    "restart.RestartPoint": "training.ResumeCheckpoint",
    "slides.image_of": "slides.image_and_series",
    "slides.pixels_key": "slides.pixel_fingerprint",
    "slides.reading": "slides.read_options",
    "slides.series_of": "slides.parse_series",
    "training.RestartPoint": "training.ResumeCheckpoint",
    "transforms.ChosenTransforms": "transforms.SelectTransforms",
    "transforms.DeformOnced": "transforms.previous.DeformOnced",
    "transforms.LoadMultiMagnificationPatchd": "data.LoadMultiMagnificationPatchd",
    "transforms.NormalizeStainsd": "data.NormalizeStainsd",
    "transforms.RandElasticd": "transforms.previous.RandElasticd",
    "transforms.RandGridDistortiond": "transforms.previous.RandGridDistortiond",
    "transforms.RandOpticalDistortiond": "transforms.previous.RandOpticalDistortiond",
    "transforms.RandRescaled": "transforms.previous.RandRescaled",
    "transforms.RandRotated": "transforms.previous.RandRotated",
    "transforms.RandSheard": "transforms.previous.RandSheard",
    "transforms.RandShifted": "transforms.previous.RandShifted",
    "transforms.RandStyledSlided": "data.RandStyledSlided",
}
# Old name whose arguments changed too -> what to write instead. Its new place in NAMES takes the old arguments.
INSTEAD = {
    "transforms.DeformOnced": "transforms.RandDeformd",
    "transforms.RandElasticd": "transforms.RandDeformd with transforms.ElasticWarp",
    "transforms.RandGridDistortiond": "transforms.RandDeformd with transforms.GridStretch",
    "transforms.RandOpticalDistortiond": "transforms.RandDeformd with transforms.OpticalDistortion",
    "transforms.RandRescaled": "transforms.RandDeformd with transforms.Scaling",
    "transforms.RandRotated": "transforms.RandDeformd with transforms.Rotation",
    "transforms.RandSheard": "transforms.RandDeformd with transforms.Shear",
    "transforms.RandShifted": "transforms.RandDeformd with transforms.Translation",
}


def renamed_in(module: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module whose names changed.

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
    warnings.warn(f"{_PACKAGE}.{old} is now {_PACKAGE}.{INSTEAD.get(old, new)}", FutureWarning, stacklevel=3)
    return found


def renamed_argument(old: str, new: str, added: int = 0) -> Callable[[_Function], _Function]:
    """Return a decorator for an ``__init__`` one of whose arguments had another name before.

    Args:
        old: previous name of the argument, a number.
        new: present name of the argument.
        added: how much more the argument counts now.

    Raises:
        ValueError: a call that has both names.
    """

    def decorate(function: _Function) -> _Function:
        @wraps(function)
        def accepting_both(self: Any, *args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                if new in kwargs:
                    raise ValueError(f"{type(self).__name__}: {old} is now {new}. Remove {old}")
                value = kwargs.pop(old)
                kwargs[new] = value + added
                warnings.warn(
                    f"{type(self).__name__}: {old} is now {new}; write {new}: {kwargs[new]} instead of {old}: {value}",
                    FutureWarning,
                    stacklevel=2,
                )
            return function(self, *args, **kwargs)

        return cast(_Function, accepting_both)

    return decorate


class _MovedModule(Loader):
    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__getattr__ = renamed_in(module.__name__)  # type: ignore[method-assign]


class MovedModules(MetaPathFinder):
    """A finder of modules by their names in the previous version."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.removeprefix(f"{_PACKAGE}.") in MODULES and fullname.startswith(f"{_PACKAGE}."):
            return ModuleSpec(fullname, _MovedModule())
        return None
