"""Read texts that somebody else wrote, within limits."""

from __future__ import annotations

import ast
import json
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import UnreadableFileError
from ..files import printable

# Largest size in bytes by kind of text: ten times the largest of this project's own.
_MOST_BYTES = {".yaml": 2**18, ".yml": 2**18, ".json": 2**20, ".py": 2**19}
_MOST_BYTES_OF_OTHERS = 2**23
# Kinds that are parsed, and the bytes of all of them that a bundle may hold.
_PARSED = frozenset(_MOST_BYTES)
MOST_PARSED_BYTES = 2**22
_DEEPEST = 64
# Values of a settings file, each alias counted as all values that it stands for.
_MOST_VALUES = 20_000
_TEXT_PER_VALUE = 64


class BundleFileError(UnreadableFileError):
    """A bundle or its zip is damaged, or holds what a bundle must not."""

    def __str__(self) -> str:
        return printable(super().__str__())


def is_parsed(path: Path) -> bool:
    """Return whether a file is settings or code, of which a bundle may hold only little."""
    return path.suffix in _PARSED


def size_limit(path: Path) -> int:
    """Return how many bytes a text of this kind may have."""
    return _MOST_BYTES.get(path.suffix, _MOST_BYTES_OF_OTHERS)


def read_text(path: Path) -> str:
    """Read a text of a bundle.

    Raises:
        BundleFileError: the file is not regular, larger than any text of a bundle, or not UTF-8.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise BundleFileError(path, "a link or no regular file", "Remove it")
    if status.st_size > size_limit(path):
        problem = f"{status.st_size:,} bytes, and a file of this kind may have {size_limit(path):,}"
        raise BundleFileError(path, problem, "Make it smaller, or leave it out")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleFileError(path, f"not UTF-8 text ({error})", "Save it as UTF-8") from error


def read_code(path: Path) -> ast.Module:
    """Parse a Python file of a bundle; nothing of it is run.

    Raises:
        BundleFileError: see :func:`read_text`; or the file is not Python, with the line where parsing failed.
    """
    text = read_text(path)
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        # Of null bytes, Python tells no line.
        line = getattr(error, "lineno", None) or text.partition("\0")[0].count("\n") + 1
        problem = f"line {line}: not Python ({getattr(error, 'msg', error)})"
    except (RecursionError, MemoryError):
        problem = "not Python: nested too deeply"
    raise BundleFileError(path, problem, "Correct it, or export the bundle again")


def read_settings(path: Path) -> Any:
    """Read a YAML or JSON file of a bundle. Do not change the result: it is cached.

    Raises:
        BundleFileError: see :func:`read_text`; or the file is not YAML or JSON, or unfolds to more than any settings.
    """
    text = read_text(path)
    try:
        return _json_content(text) if path.suffix == ".json" else yaml_content(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        problem = f"cannot be read as {kind} ({type(error).__name__}: {error})"
        raise BundleFileError(path, problem, "Correct it") from error


@lru_cache(maxsize=64)
def yaml_content(text: str) -> Any:
    """Return the content of YAML text. Do not change the result: it is cached.

    Raises:
        ValueError: the content is nested too deeply, refers to itself, or unfolds to too many values.
        yaml.YAMLError: the text is not YAML.
    """
    return yaml.load(text, Loader=_BoundedLoader)


class _BoundedLoader(yaml.SafeLoader):
    """YAML's safe loader with limits: a few lines of aliases of aliases can stand for more values than memory holds."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        self._unfolded: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, and count the values that it stands for."""
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._unfolded:
                raise ValueError("an alias stands for a value that holds the alias itself")
            self._count(self._unfolded[id(node)])
            return node
        before = self._values
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels")
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._count(1 + len(node.value) // _TEXT_PER_VALUE if isinstance(node, yaml.ScalarNode) else 1)
        self._unfolded[id(node)] = self._values - before
        return node

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > _MOST_VALUES:
            raise ValueError(f"unfolds to more than {_MOST_VALUES:,} values; does it have aliases of aliases?")


def _json_content(text: str) -> Any:
    content = json.loads(text)
    for _, depth in _walked(content):
        if depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels")
    return content


def _walked(content: Any) -> Iterator[tuple[Any, int]]:
    """Yield every value and its depth."""
    waiting = [(content, 1)]
    while waiting:
        value, depth = waiting.pop()
        yield value, depth
        if isinstance(value, Mapping):
            value = list(value.values())
        if isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
