"""Geometric transforms by their names and arguments of the previous version. They go with the next one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields
from typing import Any

from .deform import RandDeformd
from .deformations import (
    Deformation,
    ElasticWarp,
    GridStretch,
    OpticalDistortion,
    Rotation,
    Scaling,
    Shear,
    Translation,
)
from .views import Views


def _alone(deformation: type[Deformation]) -> Callable[..., RandDeformd]:
    """Return a function of the old arguments: keys, fields_of_view, targets, prob, the deformation's own, label_key."""
    names = [*(one.name for one in fields(deformation)), "label_key"]

    def build(
        keys: Hashable | Sequence[Hashable], fields_of_view: Views, targets: Views, *values: Any, **named: Any
    ) -> RandDeformd:
        arguments = {**dict(zip(names, values, strict=False)), **named}
        label_key = arguments.pop("label_key", "label")
        return RandDeformd(keys, fields_of_view, targets, [deformation(**arguments)], label_key)

    return build


RandRotated = _alone(Rotation)
RandSheard = _alone(Shear)
RandRescaled = _alone(Scaling)
RandShifted = _alone(Translation)
RandElasticd = _alone(ElasticWarp)
RandGridDistortiond = _alone(GridStretch)
RandOpticalDistortiond = _alone(OpticalDistortion)


def DeformOnced(transforms: Sequence[RandDeformd]) -> RandDeformd:
    """Return one transform with the deformations of several."""
    if not transforms:
        raise ValueError("DeformOnced needs at least one geometric transform")
    deformations = [deformation for transform in transforms for deformation in transform.deformations]
    if len(deformations) == 1:
        # A second one, never applied: DeformOnced gave even a single transform random numbers of its own.
        deformations.append(Rotation(prob=0.0))
    first = transforms[0]
    return RandDeformd(first.keys, first.views, first.targets, deformations, first.label_key)
