"""The rooms of ``common``: imports go one way, and each room keeps its rule."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import REPOSITORY

COMMON = REPOSITORY / "common"
# What any room may import.
ROOT = {"__init__", "caches", "classes", "errors", "figures", "files", "literal", "renamed", "renamed_keys", "settings"}
# Room -> the rooms that it may import, from the ground up: each names only rooms above it in this table.
ROOMS: dict[str, set[str]] = {
    "slides": set(),
    "networks": set(),
    "losses": set(),
    "bundle": set(),
    "annotations": {"slides"},
    "maps": {"slides"},
    "transforms": {"slides"},
    "metrics": {"losses"},
    "outputs": {"annotations", "maps", "networks", "slides"},
    "data": {"annotations", "slides"},
    "inference": {"maps", "networks", "outputs", "slides"},
    "reports": {"bundle", "data", "metrics", "networks", "outputs", "slides", "transforms"},
    "evaluation": {"annotations", "data", "metrics", "outputs", "reports", "slides"},
    "training": {"data", "inference", "networks", "reports", "slides"},
    "phantom": {"annotations", "data", "outputs"},
    "style": {"data", "networks", "outputs", "slides"},
    "superpixels": {"annotations", "data", "inference", "maps", "outputs", "slides"},
    "diagnosis": {"annotations", "data", "evaluation", "reports", "slides", "superpixels"},
    "sharing": {"networks"},
    "cohort": {"bundle", "data", "inference", "networks", "outputs", "reports", "slides"},
    "label_app": {"annotations", "data", "inference", "networks", "sharing", "slides"},
}
ROOMS["cli"] = set(ROOMS) - {"label_app"}
# A first word that makes the reader look for the subject and the verb.
RIDDLE = re.compile(r"(What|Which|Where|How|Whether)\b")


def modules_of(room: str) -> list[Path]:
    return sorted((COMMON / room).rglob("*.py"))


def imported_modules(path: Path) -> Iterator[tuple[str, ...]]:
    """Dotted paths below ``common`` that a file imports, those inside functions included."""
    package = path.relative_to(REPOSITORY).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base[1:], alias.name) for alias in node.names if base[:1] == ("common",))
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            yield from (tuple(name[1:]) for name in names if name[0] == "common")


def called_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def riddles(path: Path) -> Iterator[str]:
    """Docstrings of a file that open with a question word."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            if RIDDLE.match(text):
                yield f"{path.relative_to(REPOSITORY)}: {getattr(node, 'name', 'module')}: {text.splitlines()[0]}"


def test_the_root_holds_what_many_rooms_import():
    assert {path.stem for path in COMMON.glob("*.py")} == ROOT | {"__main__"}


def test_every_room_is_in_the_table():
    assert {path.parent.name for path in COMMON.glob("*/__init__.py")} == set(ROOMS)


def test_the_table_has_no_circle():
    below: set[str] = set()
    for room, allowed in ROOMS.items():
        assert allowed <= below, f"{room} names {allowed - below}, which comes after it"
        below.add(room)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room):
    allowed = ROOMS[room] | ROOT | {room, "__version__"}
    found = {
        f"{path.relative_to(REPOSITORY)}: {'.'.join(name)}"
        for path in modules_of(room)
        for name in imported_modules(path)
        if name[0] not in allowed
    }
    assert not found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for(room):
    assert ast.get_docstring(ast.parse((COMMON / room / "__init__.py").read_text(encoding="utf-8")))


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_no_docstring_opens_with_a_question_word(room):
    paths = modules_of(room) if room else sorted(COMMON.glob("*.py"))
    assert not [line for path in paths for line in riddles(path)]


@pytest.mark.parametrize("room", ["transforms", "metrics", "losses"])
def test_rooms_of_pure_computation_open_no_file(room):
    forbidden = {"open", "open_slide", "imread", "imwrite", "read_text", "read_bytes", "write_text", "write_bytes"}
    for path in modules_of(room):
        assert not forbidden & set(called_names(path)), path
        assert not [name for name in imported_modules(path) if name[0] == "files"], path


def test_slides_know_neither_classes_nor_torch():
    for path in modules_of("slides"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) torch\b", text, re.MULTILINE), path
        assert not [name for name in imported_modules(path) if name[0] == "classes"], path


def test_networks_know_only_networks():
    for path in modules_of("networks"):
        assert {name[0] for name in imported_modules(path)} <= {"networks", "renamed"}, path
