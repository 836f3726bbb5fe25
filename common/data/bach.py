"""A datalist of BACH's whole slides (part B of the ICIAR 2018 challenge) as they are handed out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..annotations import region_names
from ..files import write_json
from .datalist import SECTIONS
from .folders import files_by_name, relative_path

# Li et al. 2020, section IV-A.
SPLIT = {
    "training": ("A02", "A03", "A04", "A06", "A07", "A08", "A09"),
    "validation": ("A10",),
    "testing": ("A05",),
}
_SLIDE = re.compile(r"^A?\d{2}\.svs$", re.IGNORECASE)
_XML = re.compile(r"^A\d{2}\.xml$", re.IGNORECASE)
# What the annotations' names contain.
_CLASSES = {
    "normal": "normal",
    "benign": "benign",
    "in situ": "in situ",
    "in-situ": "in situ",
    "insitu": "in situ",
    "invasive": "invasive",
}
_NORMAL_WITHIN = ("slide", "tissue")
_NOT_INVASIVE = re.compile(r"non[\s-]?invasive")


@dataclass
class Bach:
    """What was found of the challenge's slides.

    Attributes:
        path: the datalist that was written.
        sections: names of its slides.
        left_out: slide -> why it is not in the datalist.
        missing: what is not where it should be, one sentence each.
    """

    path: Path
    sections: dict[str, list[str]]
    left_out: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def datalist_from_bach(root: str | Path, out: str | Path, a01: str | None = None, normal_within: str = "slide") -> Bach:
    """Write a datalist of the annotated slides A01 to A10 with the split of Li et al. 2020.

    Slides and annotations are found by their names (``A01.svs``, ``A01.xml``) wherever they lie under ``root``.

    Args:
        root: the challenge's folder.
        out: the datalist to write; its paths are relative to it.
        a01: section for the slide A01, which is in none of the paper's; its released code trains on it.
        normal_within: where pixels that are not annotated are normal: on the whole ``"slide"``, glass included, as the
            challenge scores them, or in ``"tissue"`` only; glass then has no label.

    Returns:
        what was found, left out and missing.

    Raises:
        ValueError: no slide, a slide twice, an unknown section or ``normal_within``.
        AnnotationError: an annotation that cannot be read.
    """
    root, out = Path(root), Path(out)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    if a01 is not None and a01 not in SECTIONS:
        raise ValueError(f"a01 must be one of {', '.join(SECTIONS)}, not {a01!r}")
    if normal_within not in _NORMAL_WITHIN:
        raise ValueError(f"normal_within must be one of {', '.join(_NORMAL_WITHIN)}, not {normal_within!r}")
    slides, annotations = (files_by_name(root, pattern) for pattern in (_SLIDE, _XML))
    section_of = {name: section for section, names in SPLIT.items() for name in names}
    if a01 is not None:
        section_of["A01"] = a01
    found = Bach(out, {section: [] for section in SECTIONS})
    content: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS}
    for name, path in slides.items():
        reason = _reason_to_leave_out(name, section_of, annotations)
        if reason is not None:
            found.left_out[name] = reason
            continue
        xml = annotations[name]
        found.sections[section_of[name]].append(name)
        entry = {"image": relative_path(path, out), "label": relative_path(xml, out), "class_map": _classes(xml, found)}
        content[section_of[name]].append({**entry, "unannotated": {"class": "normal", "within": normal_within}})
    if not any(content.values()):
        raise ValueError(f"{root}: no annotated slide of BACH in it (A01.svs with A01.xml, A02.svs with A02.xml, …)")
    found.missing += [f"{name}.svs, for {section}" for name, section in section_of.items() if name not in slides]
    write_json(out, content)
    return found


def _reason_to_leave_out(name: str, section_of: dict[str, str], annotations: dict[str, Path]) -> str | None:
    if not name.startswith("A"):
        return "one of the challenge's slides without annotation"
    if name not in section_of:
        return "in no section of the paper's split"
    return None if name in annotations else f"no {name}.xml"


def _classes(xml: Path, found: Bach) -> dict[str, str | None]:
    """Class by name in an annotation file; None, which leaves regions unlabelled, for those none of whose names says
    one."""
    classes: dict[str, str | None] = {}
    for names in region_names(xml):
        said = {name: tissue for name in names if (tissue := _class_of(name)) is not None}
        if not said and names[0] not in classes:
            found.missing.append(f"a class for {names[0]!r} in {xml.name}, whose regions are left unlabelled")
        for name, tissue in said.items() or [(names[0], None)]:
            classes[name] = tissue
    return classes


def _class_of(name: str) -> str | None:
    """The one class that a name says; None if it says none, or several."""
    plain = _NOT_INVASIVE.sub("", name.lower())
    said = {tissue for part, tissue in _CLASSES.items() if part in plain}
    return said.pop() if len(said) == 1 else None
