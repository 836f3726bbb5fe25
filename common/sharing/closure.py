"""Find the modules of this package that a bundle needs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..renamed import NAMES
from .texts import read_code

# The folder of this package, and the name that configs know it by.
PACKAGE = Path(__file__).resolve().parent.parent
NAME = PACKAGE.name

_NAMED = re.compile(rf"\b{NAME}((?:\.[A-Za-z_]\w*)+)")


def named_in(texts: Iterable[str]) -> set[str]:
    """Return the dotted names below the package that configs name, such as ``networks.DMMNM3``."""
    return {match.group(1)[1:] for text in texts for match in _NAMED.finditer(text)}


def with_new_places(names: Iterable[str]) -> set[str]:
    """Return names below this package, and for those of the previous version also the places that they load from."""
    return {place for name in names for place in (name, NAMES.get(name, name))}


def needed_modules(names: Iterable[str], package: Path = PACKAGE) -> list[Path]:
    """Return the files without which ``names`` cannot be imported, including imports inside functions.

    Args:
        names: dotted names below the package.
        package: folder of the package.

    Returns:
        paths below ``package``, sorted.

    Raises:
        ValueError: there is no such module.
    """
    waiting = [module for name in names for module in _modules_of(name, package)]
    found: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting.extend(_with_parents(file, package))
        waiting.extend(_imported(package / file, package))
    return sorted(found)


def _modules_of(name: str, package: Path) -> Iterator[Path]:
    """Yield the module of a dotted name, which may end in a class or function."""
    place, parts = Path(), name.split(".")
    for number, part in enumerate(parts):
        if (package / place / part).is_dir():
            place = place / part
        elif (package / place / f"{part}.py").is_file():
            yield place / f"{part}.py"
            return
        elif number == 0:
            raise ValueError(f"{package.name}.{name}: there is no module {package.name}.{part}")
        else:
            break
    yield place / "__init__.py"


def _is_module(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").is_file()


def _with_parents(file: Path, package: Path) -> Iterator[Path]:
    """Yield the packages around a module, whose own code runs before it."""
    for folder in file.parents:
        if (package / folder / "__init__.py").is_file():
            yield folder / "__init__.py"


def _imported(file: Path, package: Path) -> Iterator[Path]:
    for node in ast.walk(read_code(file)):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = file.parent
            for _ in range(node.level - 1):
                folder = folder.parent
            prefix = ".".join([*folder.relative_to(package).parts, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                if not prefix and not _is_module(package / alias.name):
                    # A name that the package's own __init__ defines.
                    yield Path("__init__.py")
                    continue
                yield from _modules_of(f"{prefix}.{alias.name}".strip("."), package)
