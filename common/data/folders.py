"""A datalist from a folder of slides and a folder of annotations."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..annotations import ANNOTATION_SUFFIXES
from ..files import write_json
from ..slides import SLIDE_SUFFIXES, slide_name
from .datalist import SECTIONS

# What annotation tools and people put behind a slide's name.
_ENDINGS = ("", "_labels", "_label", "_mask", "_annotations", "_annotation")


@dataclass
class Pairing:
    """Slides with their annotations, and what was left over."""

    pairs: dict[Path, Path] = field(default_factory=dict)
    slides_alone: list[Path] = field(default_factory=list)
    annotations_alone: list[Path] = field(default_factory=list)


def pair_by_name(slides: str | Path, annotations: str | Path) -> Pairing:
    """Find the annotation of each slide in two folders (or one), subfolders included.

    ``a.svs`` goes with ``a.geojson``, ``a.svs.geojson``, ``a_labels.png`` and the like, of the same subfolder where
    there is one, else of any.

    Raises:
        ValueError: a folder is missing or has no slide, or a slide has several annotations; names them.
    """
    slides, annotations = Path(slides), Path(annotations)
    for folder in (slides, annotations):
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
    images = _files(slides, SLIDE_SUFFIXES)
    by_key: dict[str, list[Path]] = {}
    for path in _files(annotations, ANNOTATION_SUFFIXES):
        by_key.setdefault(path.stem, []).append(path)
    result = Pairing()
    taken: set[Path] = set()
    for image in images:
        candidates = [
            path
            for key in dict.fromkeys(
                [image.name, *(stem + ending for stem in (image.stem, slide_name(image)) for ending in _ENDINGS)]
            )
            for path in by_key.get(key, [])
            if path != image
        ]
        here = [p for p in candidates if p.parent.relative_to(annotations) == image.parent.relative_to(slides)]
        fitting = here or candidates
        if len(fitting) > 1:
            raise ValueError(f"{image}: several annotations ({', '.join(map(str, fitting))}). Leave one of them")
        if fitting:
            result.pairs[image] = fitting[0]
            taken.add(fitting[0])
        else:
            result.slides_alone.append(image)
    # In one folder for both, a label image looks like a slide.
    result.pairs = {image: label for image, label in result.pairs.items() if image not in taken}
    result.slides_alone = [image for image in result.slides_alone if image not in taken]
    known = taken | set(images)
    result.annotations_alone = [p for paths in by_key.values() for p in paths if p not in known]
    if not result.pairs and not result.slides_alone:
        raise ValueError(f"{slides}: no slide in it ({', '.join(SLIDE_SUFFIXES)})")
    return result


def split_by_group(groups: Sequence[str], shares: Mapping[str, float], seed: int = 0) -> list[str]:
    """Deal items to sections so that a group is never divided.

    Args:
        groups: each item's group (its patient, or itself).
        shares: section -> share of the items; the first section gets the rest.
        seed: of the order in which groups are dealt.

    Returns:
        each item's section.

    Raises:
        ValueError: fewer groups than sections, or shares that leave nothing for the first.
    """
    first, *others = shares
    wanted = [name for name in others if shares[name] > 0]
    if any(shares[name] < 0 for name in others) or sum(shares[name] for name in others) >= 1:
        raise ValueError(f"shares of {', '.join(others)} must be at least 0 and less than 1 together")
    order = sorted(set(groups))
    if len(order) < len(wanted) + 1:
        raise ValueError(
            f"{len(order)} groups cannot be split into {first}, {', '.join(wanted)}. Add slides, or set a share to 0"
        )
    left = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]
    sections: dict[str, str] = {}
    for position, name in enumerate(wanted):
        quota, dealt = shares[name] * len(groups), 0
        needed_after = len(wanted) - position
        while len(left) > needed_after:
            size = groups.count(left[-1])
            if dealt and abs(dealt + size - quota) >= abs(dealt - quota):
                break
            sections[left.pop()] = name
            dealt += size
    return [sections.get(group, first) for group in groups]


def datalist_from_folders(
    slides: str | Path,
    annotations: str | Path,
    out: str | Path,
    validation: float = 0.2,
    testing: float = 0.2,
    patient: str | None = None,
    table: str | Path | None = None,
    split_by: str | None = None,
    seed: int = 0,
) -> tuple[Path, Pairing, dict[str, int]]:
    """Write a datalist of the slides that have an annotation.

    Args:
        slides, annotations: folders; see :func:`pair_by_name`.
        out: the datalist to write; its paths are relative to it.
        validation, testing: shares of the slides.
        patient: regular expression whose first group, found in a slide's name, is its patient.
        table: CSV with a column ``slide`` (file name, with or without ending); its other columns go into the entries.
        split_by: column whose slides stay together; ``patient`` where slides have one, else each slide by itself.
        seed: of the split.

    Returns:
        the datalist's path, what was paired, and slides per section.

    Raises:
        ValueError: nothing to pair, a name without patient, a slide that the table lacks.
    """
    pairing = pair_by_name(slides, annotations)
    if not pairing.pairs:
        raise ValueError(f"no slide of {slides} has an annotation in {annotations} (same name, another ending)")
    out = Path(out)
    columns = _columns(table) if table is not None else {}
    entries: list[dict[str, Any]] = []
    for image, label in sorted(pairing.pairs.items()):
        entry: dict[str, Any] = {"image": relative_path(image, out), "label": relative_path(label, out)}
        if table is not None:
            found = columns.get(image.name, columns.get(image.stem))
            if found is None:
                raise ValueError(f"{table}: no row for {image.name} in its column slide")
            entry.update(found)
        if patient is not None:
            entry["patient"] = _patient(patient, image)
        entries.append(entry)
    key = split_by or ("patient" if all("patient" in entry for entry in entries) else "image")
    missing = [entry["image"] for entry in entries if key not in entry]
    if missing:
        raise ValueError(f"{missing[0]} has no column {key!r} to split by")
    shares = {"training": 1 - validation - testing, "validation": validation, "testing": testing}
    sections = split_by_group([str(entry[key]) for entry in entries], shares, seed)
    content = {name: [e for e, section in zip(entries, sections, strict=True) if section == name] for name in SECTIONS}
    write_json(out, content)
    return out, pairing, {name: len(content[name]) for name in SECTIONS}


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file() and p.name[0] != ".")


def files_by_name(folder: Path, pattern: re.Pattern[str]) -> dict[str, Path]:
    """Files of a folder and its subfolders whose names match, by their names in capitals and without ending.

    Raises:
        ValueError: one name twice.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if pattern.match(path.name):
            name = path.stem.upper()
            if name in found:
                raise ValueError(f"{path.stem} is there twice: {found[name]} and {path}. Leave one of them")
            found[name] = path
    return found


def relative_path(path: Path, out: Path) -> str:
    """A path as a datalist at ``out`` names it: from its folder, with slashes."""
    return Path(os.path.relpath(path.absolute(), out.absolute().parent)).as_posix()


def _patient(pattern: str, image: Path) -> str:
    try:
        found = re.search(pattern, image.stem)
        if found is None:
            raise ValueError(f"{image.name}: {pattern!r} finds no patient in its name")
        return found.group(1)
    except (re.error, IndexError) as error:
        raise ValueError(f"{pattern!r} is no regular expression with a group ({error})") from error


def _columns(table: str | Path) -> dict[str, dict[str, str]]:
    with Path(table).open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or "slide" not in rows[0]:
        raise ValueError(f'{table}: a CSV with a column "slide" is needed')
    return {row["slide"]: {k: v for k, v in row.items() if k and k != "slide" and v} for row in rows}
