"""Narrow networks of all bundles, and phantoms with a datalist for each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.phantom import BREAST, write_phantoms

# Settings of a bundle by its short name: narrow networks, and the classes that few small phantoms show.
NARROW: dict[str, dict[str, Any]] = {
    "dmmn": {
        "datalist": "datalist.json",
        "network_def#channels": [4, 6, 8, 10, 12],
        "allow_missing": ["carcinoma", "benign epithelial", "necrotic"],
    },
    "mrn": {"datalist": "two_classes.json", "channels": [2, 2, 2, 2, 2]},
    "multires_encdec": {
        "datalist": "biopsies.json",
        "channels": [2, 2, 2, 2],
        "allow_missing": [
            "benign epithelium",
            "malignant epithelium",
            "desmoplastic stroma",
            "secretion",
            "blood",
            "necrosis",
        ],
    },
    "da_refinenet": {
        "datalist": "grades.json",
        "slice_encoder": "resnet18",
        "context_encoder": "resnet18",
        "channels": [2, 2, 2, 2],
        "decoder_channels": [2, 2, 2, 2],
        "allow_missing": ["in situ", "invasive"],
    },
    "multilevel_unet": {
        "datalist": "tissues.json",
        "encoder": "efficientnet-b0",
        "decoder_channels": [4, 4, 4, 4, 4],
        "merged_channels": 8,
        # Of the HookNet that is compared with it.
        "channels": [2, 2, 2, 2, 2],
        "min_labelled": 0.01,
        "batch_classes": ["normal"],
        "allow_missing": ["tumour", "others"],
    },
}
# What the breast phantom's classes stand for in the other bundles' datalists.
CLASS_MAPS = {
    "two_classes": {c.name: "tumour" if c.name == "stroma" else "normal" for c in BREAST.scheme.classes},
    "biopsies": {
        "carcinoma": "malignant epithelium",
        "benign epithelial": "benign epithelium",
        "background": "background",
        "stroma": "normal stroma",
        "necrotic": "necrosis",
        "adipose": "background",
    },
    "grades": {
        **dict.fromkeys(BREAST.scheme.names, "normal"),
        "stroma": "benign",
        "necrotic": "in situ",
        "carcinoma": "invasive",
    },
    "tissues": {
        **dict.fromkeys(BREAST.scheme.names, "normal"),
        "necrotic": "others",
        "benign epithelial": "others",
        "carcinoma": "tumour",
    },
}


def write_phantoms_for_all(
    folder: Path, training: int = 1, validation: int = 1, testing: int = 1, size: int = 2048, seed: int = 40
) -> Path:
    """Write breast phantoms and a datalist for each bundle: ``datalist.json`` with the phantom's own classes, and one
    per class map.

    Returns:
        their folder.
    """
    write_phantoms(folder, training, validation, testing, size=size, seed=seed)
    sections = json.loads((folder / "datalist.json").read_text())
    for name, classes in CLASS_MAPS.items():
        values = {str(c.label): classes[c.name] for c in BREAST.scheme.classes}
        other = {s: [{**e, "class_map": classes, "label_values": values} for e in sections[s]] for s in sections}
        (folder / f"{name}.json").write_text(json.dumps(other))
    return folder
