"""Write a datalist from a folder of slides and a folder of annotations."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..annotations import ANNOTATION_SUFFIXES, annotation_suffix
from ..classes import ClassScheme
from ..files import write_json
from ..slides import SLIDE_SUFFIXES, check_origin, slide_name
from .class_map import checked_class_map, names_in_use, unknown_names_remark, unused_names_remark
from .datalist import SECTIONS, with_numbers
from .dicom_series import one_file_per_slide
from .origin import OriginEvidence, evidence_of_files, states_origin
from .store import LABEL_FIELDS, PSEUDO_LABEL
from .tables import rows_of, text_of

_COMPRESSED, _DICOM = ".gz", ".dcm"
# Endings that annotation tools and people add to a slide's name.
_ENDING = re.compile(r"_(labels?|masks?|annotations?)$", re.IGNORECASE)
# QuPath's name of the first image of a file; further series are images that are not read.
_SERIES = re.compile(r"\s+-\s+series\s+[01]$", re.IGNORECASE)
_MOST_SHOWN = 20


@dataclass
class Pairing:
    """Slides and their annotations.

    Attributes:
        pairs: slide -> annotation.
        slides_alone: slides without an annotation.
        annotations_alone: annotations without a slide.
        origins: evidence on the origin of the annotations of slides with bounds.
    """

    pairs: dict[Path, Path] = field(default_factory=dict)
    slides_alone: list[Path] = field(default_factory=list)
    annotations_alone: list[Path] = field(default_factory=list)
    origins: list[OriginEvidence] = field(default_factory=list)

    def left_over(self) -> list[str]:
        """Return a line on the slides without an annotation and one on the annotations without a slide.

        Each names at most 20 files.
        """
        kinds = (("slide", "an annotation", self.slides_alone), ("annotation", "a slide", self.annotations_alone))
        return [
            f"left out, {len(paths)} {what}{'s' if len(paths) > 1 else ''} without {other}: {_some(paths)}"
            for what, other, paths in kinds
            if paths
        ]


def pair_by_name(slides: str | Path, annotations: str | Path) -> Pairing:
    """Find the annotation of each slide in two folders (or one), subfolders included.

    ``a.svs`` pairs with ``a.geojson``, ``a.svs.geojson``, ``a_labels.png``, ``a.svs - Series 1.geojson`` and the like,
    in upper or lower case. Annotations in the same subfolder win over others.

    Raises:
        ValueError: a folder is missing or has no slide, a slide has several annotations, or an annotation fits several
            slides. The message names them.
    """
    slides, annotations = Path(slides), Path(annotations)
    for folder in (slides, annotations):
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
    images = one_file_per_slide(_files(slides, SLIDE_SUFFIXES))
    drawn = _files(annotations, ANNOTATION_SUFFIXES)
    fits = _fits(images, drawn, slides, annotations)
    candidates: dict[Path, list[Path]] = {image: [] for image in images}
    for path, fitting in fits.items():
        image = _one_slide(path, fitting, fits)
        if image is not None:
            candidates[image].append(path)
    pairs = {image: _one_annotation(image, paths, fits) for image, paths in candidates.items() if paths}
    # If both are in one folder, a label image looks like a slide.
    labels = set(pairs.values())
    pairs = {image: label for image, label in pairs.items() if image not in labels}
    slides_alone = [image for image in images if image not in labels and image not in pairs]
    kept = set(pairs.values())
    annotations_alone = [path for path in drawn if path not in kept and path not in candidates]
    if not pairs and not slides_alone:
        raise ValueError(f"{slides}: no slide in it ({', '.join(SLIDE_SUFFIXES)})")
    return Pairing(pairs, slides_alone, annotations_alone)


# Fit of an annotation's name to a slide's; smaller is better: whether it is in another subfolder, how much was removed
# from its name, which form of the slide's name it equals, whether its case differs.
_Fit = tuple[bool, int, int, bool]


def _fits(
    images: Iterable[Path], drawn: Iterable[Path], slides: Path, annotations: Path
) -> dict[Path, dict[Path, _Fit]]:
    """Return the fit of each annotation to each slide that it fits at all."""
    by_key: dict[str, list[tuple[Path, str, int]]] = {}
    for image in images:
        for kind, key in enumerate(_names_of(image)):
            by_key.setdefault(_folded(key), []).append((image, key, min(kind, 1)))
    fits: dict[Path, dict[Path, _Fit]] = {}
    for path in drawn:
        fits_of_path = fits.setdefault(path, {})
        for key, taken_off in _slide_names(path):
            for image, name, kind in by_key.get(_folded(key), []):
                other_folder = image.parent.relative_to(slides) != path.parent.relative_to(annotations)
                fit = (other_folder, taken_off, kind, _composed(name) != _composed(key))
                if image != path:
                    fits_of_path[image] = min(fit, fits_of_path.get(image, fit))
    return fits


def _names_of(image: Path) -> list[str]:
    """Return the names of a slide: its file's, with the suffix first, and for DICOM also its folder's."""
    folder = [image.parent.name] if image.suffix.lower() == _DICOM else []
    return list(dict.fromkeys((image.name, slide_name(image), image.stem, *folder)))


def _slide_names(annotation: Path) -> Iterator[tuple[str, int]]:
    """Yield the possible names of an annotation's slide, and how much of the annotation's name was removed for each."""
    if annotation.suffix.lower() == _COMPRESSED:
        annotation = annotation.with_suffix("")
    for name in dict.fromkeys((annotation.stem, slide_name(annotation))):
        stem = _ENDING.sub("", name)
        yield name, 0
        yield _SERIES.sub("", name), 1
        yield stem, 2
        yield _SERIES.sub("", stem), 3


def _one_slide(path: Path, fitting: Mapping[Path, _Fit], fits: Mapping[Path, Mapping[Path, _Fit]]) -> Path | None:
    """Return the slide that an annotation fits best, or None if it fits none.

    Raises:
        ValueError: it fits several equally well, case aside, and other annotations fit fewer than all but one of them
            better.
    """
    best = sorted(image for image, fit in fitting.items() if fit[:3] == min(fitting.values())[:3])
    if len(best) <= 1:
        return best[0] if best else None
    unserved = [image for image in best if fitting[image] <= min(fit[image] for fit in fits.values() if image in fit)]
    if len(unserved) == 1:
        return unserved[0]
    one, other = (unserved or best)[:2]
    if one.name != other.name and _folded(one.name) == _folded(other.name):
        raise ValueError(
            f"{path} fits {one} and {other}, whose names differ only in case. Rename one of them and its annotation"
        )
    name = f"{one.name}{annotation_suffix(path)}"
    raise ValueError(f"{path} fits {one} and {other}. Name it after one of them, ending included: {name}")


def _one_annotation(image: Path, paths: Sequence[Path], fits: Mapping[Path, Mapping[Path, _Fit]]) -> Path:
    """Return the annotation of a slide: the only one, or the only one of its own subfolder.

    Raises:
        ValueError: there are several.
    """
    here = [path for path in paths if not fits[path][image][0]] or paths
    if len(here) > 1:
        raise ValueError(f"{image}: several annotations ({', '.join(map(str, here))}). Leave one of them")
    return here[0]


def _folded(name: str) -> str:
    return _composed(name).casefold()


def _composed(name: str) -> str:
    """Return a name with each accented letter as one character: macOS writes two."""
    return unicodedata.normalize("NFC", name)


def _some(paths: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in paths[:_MOST_SHOWN])
    return names if len(paths) <= _MOST_SHOWN else f"{names} and {len(paths) - _MOST_SHOWN} more"


def _nothing_pairs(pairing: Pairing, slides: str | Path, annotations: str | Path) -> ValueError:
    """Return an error that shows names from both folders, and one that would have paired."""
    drawn, images = pairing.annotations_alone, pairing.slides_alone
    if not drawn:
        suffixes = {path.suffix.lower() for path in Path(annotations).rglob("*")}
        hint = " QuPath's .qpdata is not read: export GeoJSON" if ".qpdata" in suffixes else ""
        if not hint and suffixes & {".jpg", ".jpeg"} and Path(annotations).resolve() != Path(slides).resolve():
            hint = " JPEG changes the values of labels: export PNG or TIFF"
        return ValueError(f"{annotations}: no annotation in it ({', '.join(ANNOTATION_SUFFIXES)}).{hint}")
    nearest = max(
        ((image, path) for image in images[:_MOST_SHOWN] for path in drawn[:_MOST_SHOWN]),
        key=lambda pair: SequenceMatcher(None, _folded(pair[0].stem), _folded(pair[1].stem)).ratio(),
    )
    image, path = nearest
    return ValueError(
        f"no slide of {slides} has an annotation in {annotations}. There are for example {image.name} and {path.name}: "
        f"{slide_name(image)}{annotation_suffix(path)} would fit"
    )


def split_by_group(groups: Sequence[str], shares: Mapping[str, float], seed: int = 0) -> list[str]:
    """Assign items to sections so that no group is divided.

    Args:
        groups: group of each item (its patient, or itself).
        shares: section -> share of the items; the first section gets the rest.
        seed: random seed of the order in which groups are assigned.

    Returns:
        The section of each item.

    Raises:
        ValueError: there are fewer groups than sections, or the shares leave nothing for the first section.
    """
    first, *others = shares
    nonzero = [name for name in others if shares[name] > 0]
    if any(shares[name] < 0 for name in others) or sum(shares[name] for name in others) >= 1:
        raise ValueError(f"shares of {', '.join(others)} must be at least 0 and less than 1 together")
    order = sorted(set(groups))
    if len(order) < len(nonzero) + 1:
        count = f"{len(order)} group{'s' if len(order) > 1 else ''}"
        raise ValueError(f"{count} cannot be split into {first}, {', '.join(nonzero)}. Add slides, or set a share to 0")
    left = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]
    sections: dict[str, str] = {}
    for position, name in enumerate(nonzero):
        quota, assigned = shares[name] * len(groups), 0
        needed_after = len(nonzero) - position
        while len(left) > needed_after:
            size = groups.count(left[-1])
            if assigned and abs(assigned + size - quota) >= abs(assigned - quota):
                break
            sections[left.pop()] = name
            assigned += size
    return [sections.get(group, first) for group in groups]


def datalist_from_folders(
    slides: str | Path,
    annotations: str | Path,
    output: str | Path,
    validation: float = 0.2,
    testing: float = 0.2,
    patient: str | None = None,
    table: str | Path | None = None,
    split_by: str | None = None,
    seed: int = 0,
    class_map: Mapping[str, str | None] | None = None,
    scheme: ClassScheme | None = None,
    owner: str = "the scheme",
    origin: str | None = None,
) -> tuple[Path, Pairing, dict[str, int]]:
    """Write a datalist of the slides that have an annotation.

    Args:
        slides, annotations: folders; see :func:`pair_by_name`.
        output: the datalist to write; its paths are relative to its folder.
        validation, testing: shares of the slides.
        patient: regular expression, searched in a slide's name, whose first group is the patient.
        table: CSV with a column ``slide`` (file name, with or without suffix); its other columns go into the entries.
        split_by: column whose slides stay together; by default ``patient`` if all slides have one, otherwise each slide
            is its own group.
        seed: random seed of the split.
        class_map: map that goes into every entry: class names of annotations -> the scheme's, or None to leave them
            unlabelled.
        scheme: the classes that ``class_map`` may name; None to check no names.
        owner: owner of the scheme, for messages.
        origin: origin of the annotations, ``"slide"`` or ``"bounds"``. By default annotations of slides with bounds get
            the origin that clearly puts them on tissue, if it is not the slide's corner.

    Returns:
        The datalist's path, the pairs, and the number of slides of each section.

    Raises:
        ValueError: nothing pairs, a name has no patient, the table lacks a slide, or a class is unknown.
    """
    mapped = checked_class_map(class_map, scheme, owner)
    if origin is not None:
        check_origin(origin)
    pairing = pair_by_name(slides, annotations)
    if not pairing.pairs:
        raise _nothing_pairs(pairing, slides, annotations)
    output = Path(output)
    columns = None if table is None else _SlideTable(table)
    entries: list[dict[str, Any]] = []
    pairs = sorted(pairing.pairs.items())
    for image, label in tqdm(pairs, desc="reading slides", unit="slide", delay=3, leave=False):
        named = _named_by(image, pairing, Path(slides))
        entry: dict[str, Any] = {"image": relative_path(named, output), "label": relative_path(label, output)}
        if columns is not None:
            entry.update(columns.of(image))
        if patient is not None:
            entry["patient"] = _patient(patient, image)
        entry |= {"class_map": mapped} if mapped else {}
        entries.append(entry | _origin(entry | {"image": image, "label": label}, pairing, scheme, origin))
    shares = {"training": 1 - validation - testing, "validation": validation, "testing": testing}
    sections = split_by_group(_groups(entries, split_by), shares, seed)
    content = {name: [e for e, section in zip(entries, sections, strict=True) if section == name] for name in SECTIONS}
    write_json(output, content)
    return output, pairing, {name: len(content[name]) for name in SECTIONS}


def _origin(
    entry: Mapping[str, Any], pairing: Pairing, scheme: ClassScheme | None, origin: str | None
) -> dict[str, Any]:
    """Return an entry's field ``origin``, if it needs one, and note the evidence."""
    if origin is not None:
        return {} if states_origin(entry) else {"origin": origin}
    evidence = evidence_of_files(entry, scheme)
    if evidence is None:
        return {}
    pairing.origins.append(evidence)
    return {"origin": "bounds"} if evidence.best == "bounds" else {}


def _named_by(image: Path, pairing: Pairing, slides: Path) -> Path:
    """Return a slide's path, or the subfolder of a DICOM slide that is alone in it: the folder then names the slide."""
    if image.suffix.lower() != _DICOM or image.parent == slides:
        return image
    here = [one for one in (*pairing.pairs, *pairing.slides_alone) if one.parent == image.parent]
    return image.parent if len(here) == 1 else image


def folder_remarks(
    pairing: Pairing, scheme: ClassScheme, owner: str = "the scheme", class_map: Mapping[str, str | None] | None = None
) -> list[str]:
    """Return lines on paired folders: files left over, slides with bounds, unreadable annotations, mapped names that
    are not used, and names that are still to be mapped.

    Args:
        pairing: slides and annotations.
        scheme: the classes.
        owner: owner of the scheme.
        class_map: see :func:`datalist_from_folders`.
    """
    mapped = checked_class_map(class_map)
    entries = ({"image": image, "label": label, "class_map": mapped} for image, label in pairing.pairs.items())
    names = names_in_use(entries, scheme)
    return [
        *pairing.left_over(),
        *_origin_remarks(pairing.origins),
        *(f"warning: {text}" for text in names.unreadable),
        *(f"warning: {text}" for text in unused_names_remark(names, mapped)),
        *unknown_names_remark(names, scheme, owner, mapped),
    ]


def _origin_remarks(evidences: Sequence[OriginEvidence]) -> list[str]:
    """Return a line for each slide whose annotation gets an origin, or may need one."""
    kinds = {
        "bounds": 'The datalist says "origin": "bounds" there',
        None: "It is taken to count from the slide's corner. If it does not, give --origin bounds",
    }
    lines = []
    for best, remedy in kinds.items():
        of_kind = [evidence for evidence in evidences if evidence.best == best]
        lines += [f"{evidence}. {remedy}" for evidence in of_kind[:_MOST_SHOWN]]
        if len(of_kind) > _MOST_SHOWN:
            lines.append(f"and {len(of_kind) - _MOST_SHOWN} more slides with bounds. {remedy}")
    return lines


def _groups(entries: Sequence[Mapping[str, Any]], split_by: str | None) -> list[str]:
    """Return the group of each entry, which must stay in one section."""
    key = split_by or ("patient" if all("patient" in entry for entry in entries) else "image")
    missing = [entry["image"] for entry in entries if key not in entry]
    if missing:
        raise ValueError(f"{missing[0]} has no column {key!r} to split by")
    return [str(entry[key]) for entry in entries]


def _files(folder: Path, endings: Sequence[str]) -> list[Path]:
    ends = tuple(endings)
    return sorted(p for p in folder.rglob("*") if p.name.lower().endswith(ends) and p.is_file() and p.name[0] != ".")


def files_by_name(folder: Path, pattern: re.Pattern[str]) -> dict[str, Path]:
    """Return the files of a folder and its subfolders whose names match, by the name in capitals without suffix.

    Raises:
        ValueError: a name is there twice.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if pattern.match(path.name):
            name = path.stem.upper()
            if name in files:
                raise ValueError(f"{path.stem} is there twice: {files[name]} and {path}. Leave one of them")
            files[name] = path
    return files


def relative_path(path: Path, out: Path) -> str:
    """Return a path relative to the folder of the datalist ``out``, with slashes."""
    return Path(os.path.relpath(path.absolute(), out.absolute().parent)).as_posix()


def _patient(pattern: str, image: Path) -> str:
    try:
        match = re.search(pattern, image.stem)
        if match is None:
            raise ValueError(f"{image.name}: {pattern!r} finds no patient in its name")
        return match.group(1)
    except (re.error, IndexError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression with a group ({error})") from error


class _SlideTable:
    """A table of slides: a CSV with the column ``slide``.

    Args:
        path: the file, with commas, semicolons or tabs.

    Raises:
        ValueError: it is missing, lacks that column, has a slide twice, or a column that is one of a datalist's own
            fields.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows: dict[str, dict[str, Any]] = {}
        rows = self._read()
        if not rows or "slide" not in rows[0]:
            raise ValueError(f'{path}: a CSV with a column "slide" is needed')
        reserved = [name for name in ("image", PSEUDO_LABEL, *LABEL_FIELDS) if name in rows[0]]
        if reserved:
            raise ValueError(f"{path}: a table cannot give {reserved[0]!r}, a datalist's own field. Rename that column")
        for row in rows:
            key = _folded(row["slide"])
            if not key:
                continue
            if key in self._rows:
                raise ValueError(f"{path}: {row['slide']} is there twice. Leave one of its rows")
            self._rows[key] = self._entry(row)

    def of(self, image: Path) -> dict[str, Any]:
        """Return a slide's columns.

        Raises:
            ValueError: the slide has no row.
        """
        for name in _names_of(image):
            if _folded(name) in self._rows:
                return self._rows[_folded(name)]
        raise ValueError(f"{self.path}: no row for {image.name} in its column slide")

    def _read(self) -> list[dict[str, str]]:
        try:
            text = text_of(self.path.read_bytes())
        except OSError as error:
            raise ValueError(f"{self.path}: the table cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path}: not UTF-8. Save the table as CSV UTF-8") from error
        return [row for _, row in rows_of(text, ("slide", "mpp", "series", "image", PSEUDO_LABEL, *LABEL_FIELDS))]

    def _entry(self, row: Mapping[str, str]) -> dict[str, Any]:
        entry: dict[str, Any] = {key: value for key, value in row.items() if key != "slide" and value}
        return with_numbers(entry, f"{self.path}: {row['slide']}")
