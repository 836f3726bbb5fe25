"""Write a datalist of the whole slides of BACH (part B of the ICIAR 2018 challenge), as they are distributed."""

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
# Words in the names of annotated regions, and their classes.
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
    """The datalist of the challenge's slides, and what it lacks.

    Attributes:
        path: the datalist.
        sections: section -> names of its slides.
        left_out: slide -> reason why it is not in the datalist.
        missing: files and classes that are missing, one phrase each.
    """

    path: Path
    sections: dict[str, list[str]]
    left_out: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def datalist_from_bach(root: str | Path, out: str | Path, a01: str | None = None, normal_within: str = "slide") -> Bach:
    """Write a datalist of the annotated slides A01 to A10 with the split of Li et al. 2020.

    Slides and annotations are found by their names (``A01.svs``, ``A01.xml``) anywhere below ``root``.

    Args:
        root: the challenge's folder.
        out: the datalist to write; its paths are relative to its folder.
        a01: section of the slide A01, which is in none of the paper's sections; the paper's released code trains on it.
        normal_within: where unannotated pixels are normal: on the whole ``"slide"``, glass included, as the challenge
            scores them, or in ``"tissue"`` only; glass then has no label.

    Returns:
        The slides of each section, and what was left out or is missing.

    Raises:
        ValueError: there is no slide, a slide is there twice, or the section or ``normal_within`` is unknown.
        AnnotationError: an annotation cannot be read.
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
    result = Bach(out, {section: [] for section in SECTIONS})
    content: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS}
    for name, path in slides.items():
        reason = _reason_to_leave_out(name, section_of, annotations)
        if reason is not None:
            result.left_out[name] = reason
            continue
        xml = annotations[name]
        result.sections[section_of[name]].append(name)
        entry = {"image": relative_path(path, out), "label": relative_path(xml, out)}
        unannotated = {"class": "normal", "within": normal_within}
        content[section_of[name]].append({**entry, "class_map": _classes(xml, result), "unannotated": unannotated})
    if not any(content.values()):
        raise ValueError(f"{root}: no annotated slide of BACH in it (A01.svs with A01.xml, A02.svs with A02.xml, …)")
    result.missing += [f"{name}.svs, for {section}" for name, section in section_of.items() if name not in slides]
    write_json(out, content)
    return result


def _reason_to_leave_out(name: str, section_of: dict[str, str], annotations: dict[str, Path]) -> str | None:
    if not name.startswith("A"):
        return "one of the challenge's slides without annotation"
    if name not in section_of:
        return "in no section of the paper's split"
    return None if name in annotations else f"no {name}.xml"


def _classes(xml: Path, result: Bach) -> dict[str, str | None]:
    """Return the class of each region name in an annotation file.

    Regions without a name that says a class get None, which leaves them unlabelled.
    """
    classes: dict[str, str | None] = {}
    for names in region_names(xml):
        class_of = {name: tissue for name in names if (tissue := _class_of(name)) is not None}
        if not class_of and names[0] not in classes:
            result.missing.append(f"a class for {names[0]!r} in {xml.name}, whose regions are left unlabelled")
        for name, tissue in class_of.items() or [(names[0], None)]:
            classes[name] = tissue
    return classes


def _class_of(name: str) -> str | None:
    """Return the class that a name says; None if it says none or several."""
    plain = _NOT_INVASIVE.sub("", name.lower())
    classes = {tissue for part, tissue in _CLASSES.items() if part in plain}
    return classes.pop() if len(classes) == 1 else None
