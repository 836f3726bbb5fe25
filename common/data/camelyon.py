"""Write a datalist of CAMELYON16, as it is distributed."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import write_json
from .folders import files_by_name, relative_path, split_by_group

# Slides that the dataset's readme calls not annotated exhaustively. Gu et al. 2018 (section 4.2) left out 18 slides of
# training and 2 of testing. The readme lists 20 of training; the paper does not say which two of them it kept.
NOT_EXHAUSTIVE = frozenset(
    f"tumor_{number:03d}"
    for number in (10, 15, 18, 20, 25, 29, 33, 34, 44, 46, 51, 54, 55, 56, 67, 79, 85, 92, 95, 110)
) | {"test_114"}
# Withdrawn from the dataset after the challenge: normal_086 has a metastasis and is now tumor_111, test_049 is a
# duplicate.
WITHDRAWN = {"normal_086": "it is tumor_111", "test_049": "it is a duplicate"}

_SLIDE = re.compile(r"^(normal|tumor|test)_(\d{3})\.tif$", re.IGNORECASE)
_XML = re.compile(r"^(tumor|test)_(\d{3})\.xml$", re.IGNORECASE)
# Groups of the XML files: tumour, and areas cut out of it. The groups of the testing slides have other names.
_TUMOUR_GROUPS, _CUT_OUT = ("_0", "_1", "Tumor"), ("_2", "Exclusion", "None")


@dataclass
class Camelyon16:
    """The datalist of the dataset's slides, and what it lacks.

    Attributes:
        path: the datalist.
        counts: slides per section and class, as ``{"training": {"normal": 127, "tumour": 71}, …}``.
        left_out: slide -> reason why it is not in the datalist.
        missing: files that are missing, one phrase each.
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
    """Write a datalist of CAMELYON16: training slides split into training and validation, and testing slides.

    Slides and annotations are found by their names (``normal_001.tif``, ``tumor_001.tif``, ``test_001.tif``,
    ``tumor_001.xml``, …) anywhere below ``root``, so that the folders of every mirror of the dataset fit. Unannotated
    tissue is normal. A testing slide without annotation is normal if ``reference.csv`` says so. A slide whose
    annotation is missing is left out.

    Args:
        root: the dataset's folder.
        out: the datalist to write; its paths are relative to its folder.
        validation: share of the training slides for validation, which picks the checkpoint; the same share of normal
            slides and of slides with tumour.
        seed: random seed of the split.
        tumour, normal: names of the classes.

    Returns:
        The number of slides of each section, and what was left out or is missing.

    Raises:
        ValueError: there is no slide, a slide is there twice, ``reference.csv`` cannot be read, or there are too few
            slides to split.
    """
    root, out = Path(root), Path(out)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    # The dataset's masks are called tumor_001_mask.tif and do not match.
    slides, annotations = ({k.lower(): v for k, v in files_by_name(root, p).items()} for p in (_SLIDE, _XML))
    if not slides:
        raise ValueError(f"{root}: no slide of CAMELYON16 in it (normal_001.tif, tumor_001.tif, test_001.tif, …)")
    result = Camelyon16(out, {})
    result.missing = [
        f"{path.parent / path.stem}: unpack {path.name}"
        for path in sorted(root.rglob("lesion_annotations.zip"))
        if not path.with_suffix("").is_dir()
    ]
    positive = _reference(root, result)
    entries: dict[str, dict[str, Any]] = {}
    for name, path in slides.items():
        reason = _reason_to_leave_out(name, annotations, positive)
        if reason is not None:
            result.left_out[name] = reason
            continue
        entries[name] = _entry(path, annotations.get(name), out, tumour, normal)
    result.missing += [f"no slide for {xml.name}" for name, xml in annotations.items() if name not in slides]
    sections = _sections(entries, validation, seed)
    content = {section: [entries[name] for name in names] for section, names in sections.items()}
    write_json(out, content)
    result.counts = {
        section: {
            normal: sum("label" not in entries[name] for name in names),
            tumour: sum("label" in entries[name] for name in names),
        }
        for section, names in sections.items()
    }
    return result


def _reference(root: Path, result: Camelyon16) -> dict[str, bool] | None:
    """Return whether each testing slide has tumour, from ``reference.csv``; None if there is no such file."""
    paths = sorted(root.rglob("reference.csv"))
    if not paths:
        result.missing.append("reference.csv, which says which testing slides have tumour")
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
        return f"withdrawn from the dataset: {WITHDRAWN[name]}"
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
