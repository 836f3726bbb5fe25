"""Write an exported bundle's documentation, the licence of its data, and its model card for Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..classes import ClassScheme, hex_color

UNSPECIFIED = "Whoever exported this bundle did not say what the weights were trained on."
_LEAVING = re.compile(r"\[([^\]]*)\]\(\.\./[^)]*\)")


def data_license(trained_on: str, checksum: str) -> str:
    """Return the text of ``docs/data_license.txt``."""
    return (
        f"Weights (models/model.pt, sha256 {checksum}): {trained_on}\n\n"
        "No slides are part of this bundle; pictures in its documentation show synthetic slides. Code, configuration "
        "and documentation are under the licence in LICENSE.\n"
    )


def documentation(text: str, name: str, trained_on: str) -> str:
    """Return the method's page below a note on the exported bundle; links out of the bundle become plain text."""
    head = (
        f"# {name}\n\n"
        "An exported bundle: everything it runs on is in `scripts/` and in the packages of `configs/metadata.json`. "
        "Run it in its folder:\n\n"
        "```\n"
        "python -m monai.bundle run --config_file configs/inference.yaml --slides SLIDE --output_dir OUTPUT\n"
        "python -m monai.bundle run --config_file configs/train.yaml --datalist DATALIST --output_dir OUTPUT\n"
        "```\n\n"
        f"Weights: `models/model.pt`, and the same as `models/model.safetensors`. {trained_on} "
        "Not a medical device.\n\n"
        "Below is the page of the method's bundle in the project MultiMag. Its commands that begin with "
        "`multimag` are that project's, and other checkpoints that it names are not part of this bundle.\n\n"
        "---\n\n"
    )
    return head + _LEAVING.sub(r"\1", text)


def model_card(
    metadata: Mapping[str, Any],
    scheme: ClassScheme,
    weights: Path,
    checksum: str,
    license_id: str | None,
    warning: str | None = None,
) -> str:
    """Return ``README.md`` of a Hugging Face repository, with ``warning`` above everything else."""
    views = metadata["network_data_format"]["inputs"]["image"]
    mpps = list(dict.fromkeys(text.split(" at ", 1)[1] for text in views["channel_def"].values()))
    rows = "\n".join(f"| {one.label} | {one.name} | {hex_color(one.color)} |" for one in scheme.classes)
    references = "\n".join(f"- {text}" for text in metadata.get("references", ()))
    tags = "\n".join(f"- {tag}" for tag in ("monai", "medical", "pathology", "whole-slide-image", "segmentation"))
    other = "license: other\nlicense_name: see-data-license\nlicense_link: docs/data_license.txt"
    front = f"license: {license_id}" if license_id else other
    results = metadata.get("eval_metrics")
    measured = "".join(f"\n- {key}: {value}" for key, value in results.items()) if results else "\nNone were given."
    return f"""---
{front}
library_name: monai
pipeline_tag: image-segmentation
tags:
{tags}
---

# {metadata["name"]}
{f"{chr(10)}> **{warning}**{chr(10)}" if warning else ""}
{metadata["description"]}

Version {metadata["version"]}, a MONAI bundle. {metadata["authors"]}.

## Intended use

{metadata.get("intended_use", "Research. Not a medical device.")}

## Training data

{metadata["data_source"]}

## Input

RGB of whole slides, {views["num_channels"]} channels of {"×".join(map(str, views["spatial_shape"]))} pixels around one
centre: {"; ".join(mpps)}.

## Classes

| label | class | colour |
|---|---|---|
{rows}

## Results

{measured.strip()}

## Use

In this folder:

```
python -m monai.bundle run --config_file configs/inference.yaml --slides SLIDE --output_dir OUTPUT
```

Each slide gets `prediction.tif` (label map), `prediction.geojson` (polygons for QuPath), `overlay.png` and
`summary.json` in its folder of OUTPUT. More is in `docs/README.md`.

Weights: `{weights.as_posix()}` (sha256 `{checksum}`), and the same as `models/model.safetensors`.

## References

{references}
"""
