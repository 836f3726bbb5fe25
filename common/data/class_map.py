"""Map class names of annotations to the classes of a scheme."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..annotations import AnnotationError, OutlineName, outline_names
from ..classes import ClassScheme
from ..files import printable_line

ClassMap = dict[str, str | None]

# Kind of tissue -> its names among annotators and in schemes, spelt as plain() returns them. QuPath's default classes
# are included.
_KINDS = {
    "malignant": (
        *("tumor", "carcinoma", "cancer", "malignant", "malignancy", "adenocarcinoma", "neoplasm", "tumor cell"),
        *("malignant epithelium", "malignant epithelial", "tumor epithelium", "tumor epithelial", "cancer epithelium"),
        *("metastasis", "metastase", "metastatic", "viable tumor"),
    ),
    "invasive": ("invasive", "invasive carcinoma", "invasive cancer", "invasive tumor", "idc", "ilc"),
    "in situ": ("in situ", "insitu", "carcinoma in situ", "in situ carcinoma", "cis", "dcis", "lcis"),
    "benign": (
        *("benign", "benign epithelial", "benign epithelium", "benign gland", "benign duct", "benign lobule"),
        *("normal epithelium", "normal epithelial", "normal gland", "normal duct", "normal lobule"),
    ),
    "normal": ("normal", "healthy", "non tumor", "non neoplastic"),
    "background": ("background", "glass", "slide background", "white", "whitespace", "white space", "empty"),
    "stroma": ("stroma", "stromal", "normal stroma", "connective", "fibrous", "fibrous stroma"),
    "tumor stroma": ("desmoplastic stroma", "desmoplasia", "tumor stroma", "tumor associated stroma"),
    "necrosis": ("necrosis", "necrotic", "necrotic tumor", "necrotic debris", "comedonecrosis"),
    "fat": ("fat", "fatty", "adipose", "adipocyte"),
    "blood": ("blood", "hemorrhage", "red blood cell", "erythrocyte", "rbc"),
    "secretion": ("secretion", "luminal secretion"),
    "vessel": ("vessel", "blood vessel"),
    "artifact": ("artifact", "fold", "tissue fold", "bubble", "air bubble", "blur", "blurred", "out of focus", "pen"),
    "other": ("other", "rest", "miscellaneous"),
    "immune": (
        *("immune cell", "immune", "lymphocyte", "lymphoid", "til", "inflammation", "inflammatory"),
        *("inflammatory cell", "inflammatory infiltrate"),
    ),
    "no class": ("ignore", "exclude", "excluded", "region", "roi", "annotation", "tissue", "unlabeled", "unclassified"),
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}
# Kinds that replace a kind in schemes that lack it, the best first.
_INSTEAD = {
    "invasive": ("malignant",),
    "in situ": ("other", "malignant"),
    "benign": ("other", "normal"),
    "background": ("normal",),
    "stroma": ("normal",),
    "tumor stroma": ("stroma",),
    "necrosis": ("other",),
    "fat": ("normal",),
    "vessel": ("other",),
    "artifact": ("other",),
}
# Kinds that are never left out by default where a scheme lacks them: it may divide them further.
_NEVER_LEFT_OUT = ("malignant", "normal")
_SPELLINGS = (("tumour", "tumor"), ("artefact", "artifact"), ("haem", "hem"), ("labelled", "labeled"))
# Words without meaning after others.
_EMPTY_WORDS = ("tissue", "area", "region", "annotation")
_ACROSS_SHELLS = re.compile(r"""["'$`\\!%\x00-\x1f]""")


@dataclass
class NamesInUse:
    """The class names in the annotations of a datalist.

    Attributes:
        slides: name -> number of slides whose annotations use it, known or not.
        unknown: name -> number of slides, for the names for which an annotation would be refused: neither the scheme
            nor the slide's ``class_map`` has them.
        unreadable: errors of the files that cannot be read.
    """

    slides: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)


def names_in_use(entries: Iterable[Mapping[str, Any]], scheme: ClassScheme) -> NamesInUse:
    """Return the class names in the annotations of a datalist's entries.

    Args:
        entries: datalist entries with ``image``, and perhaps ``label`` and ``class_map``; paths can be opened.
        scheme: the known classes.
    """
    result = NamesInUse()
    for entry in entries:
        if entry.get("label") is None:
            continue
        known = {*scheme.names, *(entry.get("class_map") or {})}
        try:
            names = outline_names(entry["label"], Path(entry["image"]).name)
        except AnnotationError as error:
            result.unreadable.append(str(error))
            continue
        result.slides.update({candidate for name in names for candidate in name.candidates})
        unknown = (name for name in names if name.fallback is not None and not known.intersection(name.candidates))
        result.unknown.update({_to_map(name, scheme) for name in unknown})
    return result


def _to_map(name: OutlineName, scheme: ClassScheme) -> str:
    """Return the name of an outline to map: the first with a known meaning, or else the one that is reported."""
    telling = (candidate for candidate in name.candidates if can_guess(candidate, scheme))
    return next(telling, name.fallback or name.candidates[0])


def checked_class_map(class_map: Any, scheme: ClassScheme | None = None, owner: str = "the scheme") -> ClassMap:
    """Return a class map whose values are classes or None.

    Args:
        class_map: class names of annotations -> names of the scheme, or None (or ``"null"``) to leave them unlabelled;
            None for no map.
        scheme: the classes; None to check no names.
        owner: owner of the scheme, for messages.

    Raises:
        ValueError: it is not a mapping, or maps a name to an unknown class. The message names the nearest class.
    """
    if class_map is None:
        return {}
    if not isinstance(class_map, Mapping):
        raise ValueError(
            f"class_map must map names, as in \"{{'Tumor': 'carcinoma', 'Other': null}}\", not {class_map!r}"
        )
    # Fire parses null as a string.
    checked = {str(name): None if value in (None, "null") else str(value) for name, value in class_map.items()}
    for name, value in checked.items():
        if scheme is not None and value is not None and value not in scheme.names:
            near = guessed_class(value, scheme) or _nearest(value, scheme)
            raise ValueError(
                f"class_map maps {name!r} to {value!r}, which is not a class of {owner}. Did you mean {near!r}? "
                f"It has {', '.join(scheme.names)}"
            )
    return checked


def _nearest(name: str, scheme: ClassScheme) -> str:
    by_plain = {plain(known): known for known in scheme.names}
    return by_plain[get_close_matches(plain(name), by_plain, 1, 0.0)[0]]


def guessed_class(name: str, scheme: ClassScheme) -> str | None:
    """Return the class of a scheme that a name means, or None if none fits."""
    same = [known for known in scheme.names if plain(known) == plain(name)]
    if same:
        return same[0]
    kind = _kind(name)
    for candidate in (kind, *_INSTEAD.get(kind or "", ())):
        fitting = [known for known in scheme.names if candidate is not None and _kind(known) == candidate]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            return None
    return None


def can_guess(name: str, scheme: ClassScheme) -> bool:
    """Return whether a name has a known meaning: a class of the scheme, or a kind that is left unlabelled."""
    kind = _kind(name)
    return guessed_class(name, scheme) is not None or (kind is not None and kind not in _NEVER_LEFT_OUT)


def is_background(name: str) -> bool:
    """Return whether a name means glass."""
    return _kind(name) == "background"


def _kind(name: str) -> str | None:
    """Return the kind of tissue of a name, or of the first part of QuPath's derived classes ("Tumor: Positive")."""
    return _KIND_OF.get(plain(name), _KIND_OF.get(plain(name.split(":")[0])))


def plain(name: str) -> str:
    """Return a name without case, plural, separators, British spelling and empty words.

    Examples are ``Ignore*`` -> ``ignore``, ``Benign_Glands`` -> ``benign gland`` and ``Tumour area`` -> ``tumor``.
    """
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    text = parted.casefold()
    for british, american in _SPELLINGS:
        text = text.replace(british, american)
    words = [_singular(word) for word in re.split(r"[\W_]+", text) if word]
    while len(words) > 1 and words[-1] in _EMPTY_WORDS:
        words.pop()
    return " ".join(words)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "is", "us")) else word


def suggested_map(names: Iterable[str], scheme: ClassScheme) -> ClassMap:
    """Return a class map of names, with None for names that no class fits."""
    return {name: guessed_class(name, scheme) for name in names}


def as_option(class_map: Mapping[str, str | None]) -> str:
    """Return a class map as a command line option: ``--class_map "{'Tumor': 'carcinoma', 'Other': null}"``."""
    pairs = (f"{_typed(name)}: {'null' if value is None else _typed(value)}" for name, value in class_map.items())
    return f'--class_map "{{{", ".join(pairs)}}}"'


def _typed(name: str) -> str:
    """Return a name in quotes that all shells and Python read alike."""
    return "'" + _ACROSS_SHELLS.sub(lambda match: f"\\x{ord(match.group()):02x}", name) + "'"


def unknown_names_remark(
    names: NamesInUse, scheme: ClassScheme, owner: str, class_map: Mapping[str, str | None] | None = None
) -> list[str]:
    """Return lines that list the unknown names and suggest a class map to paste; nothing if all are known.

    Args:
        names: the class names in use.
        scheme: the classes.
        owner: owner of the scheme.
        class_map: the current map, which the suggestion extends.
    """
    if not names.unknown:
        return []
    unknown = dict(sorted(names.unknown.items(), key=lambda one: (-one[1], one[0])))
    suggested = suggested_map(unknown, scheme)
    option = as_option({**(class_map or {}), **suggested})
    which = "which is not a class" if len(unknown) == 1 else "which are not classes"
    lines = [
        f"annotations use {_counted(unknown)}, {which} of {owner} ({', '.join(scheme.names)}). "
        f"Training refuses them: give the command again with, for example, {option}"
    ]
    if None in suggested.values():
        lines.append("null leaves what is drawn in that class unlabelled, also over what was drawn before it")
    guesses = (name for name in unknown if not can_guess(name, scheme))
    return [
        *lines,
        *(
            f"? {printable_line(name)}: no class could be guessed; replace its null if it stands for one"
            for name in guesses
        ),
    ]


def _counted(names: Mapping[str, int]) -> str:
    first, *rest = [(printable_line(name), count) for name, count in names.items()]
    told = f"{first[0]} ({first[1]} slide{'s' if first[1] > 1 else ''})"
    return ", ".join([told, *(f"{name} ({count})" for name, count in rest)])


def unused_names_remark(names: NamesInUse, class_map: Mapping[str, str | None]) -> list[str]:
    """Return a line for each mapped name that no annotation uses."""
    used = ", ".join(sorted(names.slides)) or "no names"
    return [
        f"class_map names {name!r}, which no annotation uses: they use {used}. It changes nothing"
        for name in class_map
        if name not in names.slides
    ]
