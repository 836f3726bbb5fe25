"""A datalist of CAMELYON16 as it is handed out."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import write_json
from .folders import files_by_name, relative_path, split_by_group

# What the data set's own readme says of its slides, and Gu et al. 2018 (section 4.2) of their number: 18 slides of
# training and 2 of testing left out. The readme lists 20 of training; which two the paper kept it does not say.
NOT_EXHAUSTIVE = frozenset(
    f"tumor_{number:03d}"
    for number in (10, 15, 18, 20, 25, 29, 33, 34, 44, 46, 51, 54, 55, 56, 67, 79, 85, 92, 95, 110)
) | {"test_114"}
# Taken out of the data set after the challenge: normal_086 has a metastasis and is now tumor_111, test_049 is there
# twice.
WITHDRAWN = {"normal_086": "it is tumor_111", "test_049": "it is a duplicate"}

_SLIDE = re.compile(r"^(normal|tumor|test)_(\d{3})\.tif$", re.IGNORECASE)
_XML = re.compile(r"^(tumor|test)_(\d{3})\.xml$", re.IGNORECASE)
# Groups of the XML files: tumour, and areas cut out of it. Those of the testing slides have names of their own.
_TUMOUR_GROUPS, _CUT_OUT = ("_0", "_1", "Tumor"), ("_2", "Exclusion", "None")


@dataclass
class Camelyon16:
    """What was found of the data set.

    Attributes:
        path: the datalist that was written.
        counts: slides per section and class, as ``{"training": {"normal": 127, "tumour": 71}, …}``.
        left_out: slide -> why it is not in the datalist.
        missing: what is not where it should be, one sentence each.
    """

    path: Path
    counts: dict[str, dict[str, int]]
    left_out: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def datalist_from_camelyon16(
    root: str | Path,
    out: str | Path,
    validation: float = 0.2,
    seed: int = 0,
    tumour: str = "tumour",
    normal: str = "normal",
) -> Camelyon16:
    """Write a datalist of CAMELYON16: training slides dealt to training and validation, and the testing slides.

    Slides and annotations are found by their names (``normal_001.tif``, ``tumor_001.tif``, ``test_001.tif``,
    ``tumor_001.xml``, …) wherever they lie under ``root``, so that the folders of every place that hands the data set
    out fit. Tissue that is not annotated is normal; a testing slide without annotation is normal if ``reference.csv``
    says so.

    Args:
        root: the data set's folder.
        out: the datalist to write; its paths are relative to it.
        validation: share of the training slides that pick the checkpoint, the same of normal slides and of those with
            tumour.
        seed: of the split.
        tumour, normal: names of the classes.

    Returns:
        what was found, left out and missing. A slide whose annotation is missing is left out.

    Raises:
        ValueError: no slide, a slide twice, a ``reference.csv`` that cannot be read, or too few slides to split.
    """
    root, out = Path(root), Path(out)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    # The data set's masks are called tumor_001_mask.tif and do not match.
    slides, annotations = ({k.lower(): v for k, v in files_by_name(root, p).items()} for p in (_SLIDE, _XML))
    if not slides:
        raise ValueError(f"{root}: no slide of CAMELYON16 in it (normal_001.tif, tumor_001.tif, test_001.tif, …)")
    found = Camelyon16(out, {})
    found.missing = [
        f"{path.parent / path.stem}: unpack {path.name}"
        for path in sorted(root.rglob("lesion_annotations.zip"))
        if not path.with_suffix("").is_dir()
    ]
    positive = _reference(root, found)
    entries: dict[str, dict[str, Any]] = {}
    for name, path in slides.items():
        reason = _reason_to_leave_out(name, annotations, positive)
        if reason is not None:
            found.left_out[name] = reason
            continue
        entries[name] = _entry(path, annotations.get(name), out, tumour, normal)
    found.missing += [f"no slide for {xml.name}" for name, xml in annotations.items() if name not in slides]
    sections = _sections(entries, validation, seed)
    content = {section: [entries[name] for name in names] for section, names in sections.items()}
    write_json(out, content)
    found.counts = {
        section: {
            normal: sum("label" not in entries[name] for name in names),
            tumour: sum("label" in entries[name] for name in names),
        }
        for section, names in sections.items()
    }
    return found


def _reference(root: Path, found: Camelyon16) -> dict[str, bool] | None:
    """Whether each testing slide has tumour, from ``reference.csv``; None if there is no such file."""
    paths = sorted(root.rglob("reference.csv"))
    if not paths:
        found.missing.append("reference.csv, which says which testing slides have tumour")
        return None
    positive: dict[str, bool] = {}
    with paths[0].open(newline="", encoding="utf-8-sig") as file:
        for row in csv.reader(file):
            name = Path(row[0].strip().lower()).stem if row else ""
            if not re.fullmatch(r"test_\d{3}", name):
                continue
            kind = row[1].strip().lower() if len(row) > 1 else ""
            if kind not in ("tumor", "normal"):
                raise ValueError(f'{paths[0]}: {name} is {kind!r}, neither "Tumor" nor "Normal"')
            positive[name] = kind == "tumor"
    if not positive:
        raise ValueError(f"{paths[0]}: no row that begins with test_001, test_002, …")
    return positive


def _reason_to_leave_out(name: str, annotations: dict[str, Path], positive: dict[str, bool] | None) -> str | None:
    if name in WITHDRAWN:
        return f"taken out of the data set: {WITHDRAWN[name]}"
    if name in NOT_EXHAUSTIVE:
        return "not annotated exhaustively"
    if name in annotations:
        contradicted = name.startswith("test_") and positive is not None and not positive.get(name, True)
        return "annotated, though reference.csv says that it is normal" if contradicted else None
    if name.startswith("tumor_"):
        return f"no {name}.xml"
    if name.startswith("test_"):
        if positive is None or name not in positive:
            return f"no {name}.xml, and no reference.csv that says whether it has tumour"
        if positive[name]:
            return f"no {name}.xml, though reference.csv says that it has tumour"
    return None


def _entry(slide: Path, annotation: Path | None, out: Path, tumour: str, normal: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"image": relative_path(slide, out)}
    if annotation is not None:
        entry["label"] = relative_path(annotation, out)
        entry["class_map"] = {**dict.fromkeys(_TUMOUR_GROUPS, tumour), **dict.fromkeys(_CUT_OUT, normal)}
        entry["cut_out"] = list(_CUT_OUT)
    return {**entry, "unannotated": {"class": normal, "within": "tissue"}}


def _sections(entries: dict[str, dict[str, Any]], validation: float, seed: int) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {"training": [], "validation": [], "testing": []}
    sections["testing"] = [name for name in entries if name.startswith("test_")]
    for kind in ("normal_", "tumor_"):
        names = [name for name in entries if name.startswith(kind)]
        if names:
            shares = {"training": 1 - validation, "validation": validation}
            for name, section in zip(names, split_by_group(names, shares, seed), strict=True):
                sections[section].append(name)
    return sections
