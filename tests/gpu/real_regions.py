"""Train the bundles on real regions of breast cancer: tumour against everything else, at half the papers' µm/px.

The regions are a millimetre wide and less: at the papers' own µm/px hardly a patch's context would lie inside.
"""

from __future__ import annotations

from typing import Any


def _scheme(channels: dict[str, int | None], **more: Any) -> dict[str, Any]:
    """Return a class scheme with these output channels."""
    colors = {"tumour": [220, 40, 40], "other": [60, 170, 80]}
    classes = [
        {"name": name, "color": colors[name], "label": label, "channel": channel}
        for label, (name, channel) in enumerate(channels.items(), start=1)
    ]
    return {"_target_": "common.classes.ClassScheme", "activation": "softmax", "classes": classes, **more}


def _views(size: int, *mpp: float) -> dict[str, Any]:
    views = [{"mpp": each, "size": size} for each in mpp]
    return {"fields_of_view": views, "target": views[0]}


_TWO_CHANNELS = _scheme({"other": 0, "tumour": 1})
# Settings of a bundle's train.yaml by the bundle's short name.
SETTINGS: dict[str, dict[str, Any]] = {
    "dmmn": {
        "scheme": _scheme({"tumour": 1, "other": 2}, unnamed_channels=[0]),
        **_views(256, 0.25, 0.5, 1.0),
        "elastic_extent": 256.0,
        "elastic_sigma": 1.0,
        "elastic_copies": {"tumour": 3, "other": 3},
        "class_priority": ["tumour", "other"],
    },
    "mrn": {"scheme": _scheme({"other": None, "tumour": 0}, activation="sigmoid"), **_views(512, 0.25, 0.5, 1.0, 2.0)},
    "multires_encdec": {"scheme": _TWO_CHANNELS, "view_mpp": 0.5},
    "da_refinenet": {
        "scheme": _TWO_CHANNELS,
        "slice_mpp": 0.467,
        "context_mpp": 2.335,
        "chosen_classes": ["tumour"],
    },
    "multilevel_unet": {
        "scheme": _TWO_CHANNELS,
        "fine_mpp": 0.25,
        "batch_classes": ["tumour", "other"],
    },
}
for _settings in SETTINGS.values():
    # Where a region ends, tissue goes on.
    _settings["fill"] = "reflect"
