"""Check files of a network's weights and programs without running or loading anything that could run code.

torch reads some of them with pickle, with Python's ``eval`` or ``exec``, or as a compiled library: a name that ends in
``.pt2`` or ``.ts`` does not tell what happens when the file is loaded. Everything that is not listed here as allowed is
refused. The result that a program computes is not checked.
"""

from __future__ import annotations

import ast
import io
import json
import pickletools
import re
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.utils._sympy import functions as symbolic

from ..networks.checkpoints import read_state
from .archive import opened_zip
from .onnx_structure import check_onnx
from .texts import BundleFileError

_REMEDY = "Do not load it. Export the bundle again, or get it again from whoever made it"
_CHUNK = 2**20
# Bytes of a record that is read at once: pickles, code and graphs, which are small; weights are never read at once.
_MOST_BYTES = 2**26
# Bytes of all code of a TorchScript program: five times this project's largest.
_MOST_CODE = 2**19
# Bytes of a safetensors file's header, which lists its tensors: enough for ten thousand.
_MOST_HEADER = 2**21
_MOST_RECORDS = 50_000

# Records of both kinds of archives that describe their format.
_FRAME = r"version|byteorder|\.format_version|\.storage_alignment|\.data/\w+"
_TORCHSCRIPT = re.compile(
    rf"{_FRAME}|(?:data|constants)\.pkl|(?:data|constants)/\d+|code/[\w./]+\.py(?:\.debug_pkl)?|extra/[\w.-]+"
)
# Further records would be pickled objects (custom_obj, opaque_obj) and compiled libraries (data/aotinductor).
_EXPORTED = re.compile(
    rf"{_FRAME}|archive_(?:format|version)|models/\w+\.json|data/weights/(?:weight_\d+|\w+_config\.json)"
    r"|data/constants/(?:tensor_\d+|\w+_config\.json)|data/sample_inputs/\w+\.pt|extra/[\w.-]+"
)
# Names in pickles of TorchScript: its own classes, tensors and containers. Its reader knows no others.
_TORCHSCRIPT_GLOBAL = re.compile(
    r"__torch__(?!\.torch\.classes\b)(?:\.\w+)* \w+|torch\.jit\._pickle \w+|torch \w+Storage|torch device"
    r"|collections OrderedDict|torch\._utils _rebuild_\w+|builtins complex"
)
_NAMING_OPCODES = frozenset({"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID"})
# Namespaces of the operators in torch's own networks; all work in memory, except those that open files.
_NAMESPACES = frozenset(("aten", "prim", "prims"))
# Names in torch's schemas of the argument of an operator that opens a file.
_FILE_ARGUMENTS = frozenset(("filename", "file", "path"))
# Operators of an exported program. Without the list, torch would look up any name, such as torch.os.system.
_OPERATOR = re.compile(
    r"torch\.ops\.(?:aten|prims?)\.(?P<name>_?[a-zA-Z]\w*)(?:\.\w+)?"
    r"|torch\.ops\.higher_order\.(?:cond|while_loop|scan|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(?:add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|xor|not_|getitem)"
    r"|torch\.sym_[a-z]+|torch\._sym_[a-z]+|math\.[a-z]+"
)
_IDENTIFIER = re.compile(r"[\w.$:<>/ -]*")
# A dynamic size, as sympy writes it.
_SYMBOL = re.compile(r"\bSymbol\('[A-Za-z]\w*'(?:, [a-z]+=(?:True|False))*\)")
_EXPRESSION_FUNCTIONS = frozenset(symbolic.__all__) | {
    *("Max", "Min", "Abs", "floor", "ceiling", "Pow", "Eq", "Ne", "Ge", "Gt", "Le", "Lt", "And", "Or", "Not"),
    *("Integer", "Float", "Rational", "sqrt"),
}
_GUARD_ATTRIBUTES = frozenset(("size", "shape", "stride", "storage_offset", "dim", "ndim", "isnan"))
_GUARD_NAMES = frozenset(("L", "math", "len", "max", "min", "abs"))
_ARITHMETIC = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
# Containers that a program's inputs and outputs may be nested in.
_CONTAINERS = frozenset(
    (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", "torch.Size")
)


def check_model_file(path: Path) -> None:
    """Check that a file is what its name says, and that loading it runs no code.

    Args:
        path: file whose name ends in one of :data:`MODEL_KINDS`.

    Raises:
        BundleFileError: the file is something else, or could run code; the message has the reason.
        ValueError: a checkpoint holds more than tensors.
    """
    _CHECKS[path.suffix](path)


def _check_state(path: Path) -> None:
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        with _records(path):
            pass
    read_state(path)


def _check_safetensors(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= _MOST_HEADER else None
    if header is None:
        problem = f"not a complete safetensors file: its header would have {length:,} bytes"
        raise BundleFileError(path, problem, "Export the bundle again")
    try:
        json.loads(header, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise BundleFileError(path, f"not a complete safetensors file ({error})", "Export the bundle again") from error
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  (no mapping)
                file.get_slice(name).get_shape()
    except (SafetensorError, OSError) as error:
        raise BundleFileError(path, f"not a complete safetensors file ({error})", "Export the bundle again") from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, refusing names that occur twice: readers differ in which value they take."""
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"its header names {twice[0]!r:.80} twice")
    return dict(pairs)


def _check_torchscript(path: Path) -> None:
    with _records(path) as records:
        records.all_match(_TORCHSCRIPT)
        records.needed("data.pkl", "constants.pkl", "version")
        if sum(records.size(name) for name in records if name.endswith(".py")) > _MOST_CODE:
            raise BundleFileError(path, "its code is longer than can be checked", _REMEDY)
        for name in records:
            if name.endswith(("pkl", ".debug_pkl")):
                _check_globals(path, name, records.read(name))
            elif name.startswith("code/"):
                reached = _reached_by(records.read(name).decode("utf-8", "replace"))
                if reached:
                    raise BundleFileError(
                        path, f"{name} calls {reached:.80}, which may reach files or run code", _REMEDY
                    )


@cache
def _file_operators() -> frozenset[str]:
    """Return the names of torch's operators that open files, according to their schemas."""
    named = (one.name.partition("::") for one in torch._C._jit_get_all_schemas() if _takes_file(one))
    return frozenset(name for space, _, name in named if space in _NAMESPACES)


def _takes_file(schema: Any) -> bool:
    # einsum also has a path, which is a list of numbers.
    return any(one.name in _FILE_ARGUMENTS and str(one.type) == "str" for one in schema.arguments)


def _reached_by(code: str) -> str | None:
    """Return the first call in TorchScript code that is not pure computation, or None.

    Such calls reach files, third-party operators or classes, or Python. Names inside strings do not count. Attributes
    of anything but ``torch`` and ``ops`` are a network's own.
    """
    tokens = _tokens(code)
    if tokens is None:
        return "what cannot be read as code"
    around = ["", "", *tokens, *[""] * 6]
    for place, token in enumerate(tokens, start=2):
        # torch writes no comments, and one could hide the end of a name; ^ calls Python.
        if token.startswith("#") or token == "^":
            return token
        if token == "classes" and around[place - 2 : place] == ["torch", "."]:
            return "torch.classes"
        if token in ("torch", "ops") and not _is_own_name(around[place - 1], around[place + 1]):
            called = around[place : place + (4 if token == "torch" else 6)]
            if not _only_computes(called):
                return "".join(called[:-1])
    return None


def _tokens(code: str) -> list[str] | None:
    """Return the tokens of code, or None if Python and torch may tokenize it differently."""
    # torch writes all other characters as escape sequences.
    if not code.isascii() or any(not letter.isprintable() for letter in code.replace("\n", "")):
        return None
    try:
        found = [one for one in tokenize.generate_tokens(io.StringIO(code).readline) if one.string.strip()]
    except (tokenize.TokenError, SyntaxError):
        return None
    return None if any(map(_is_ambiguous, found)) else [one.string for one in found]


def _is_ambiguous(token: tokenize.TokenInfo) -> bool:
    """Return whether a token is unknown to Python, or a string of a form that torch does not write.

    These are strings with a prefix, which torch takes for a name, in triple quotes, or over several lines.
    """
    if token.type != tokenize.STRING:
        return token.type == tokenize.ERRORTOKEN
    written = token.string
    return written[0] not in "'\"" or written.startswith(("'''", '"""')) or token.start[0] != token.end[0]


def _is_own_name(before: str, after: str) -> bool:
    """Return whether ``torch`` or ``ops`` is a network's own name: an attribute or its declaration."""
    return before in (".", "def", "class") or after == ":"


def _only_computes(called: list[str]) -> bool:
    """Return whether tokens call an operator that opens no file, such as ``torch.neg(`` or ``ops.prim.NumToTensor(``.

    Anything else is refused: code can give operators and namespaces other names (``a = torch``), and a call by such a
    name would not be found.
    """
    *spaces, name, bracket = called
    known = spaces == ["torch", "."] or (spaces[1::2] == [".", "."] and spaces[2] in _NAMESPACES)
    return known and name not in _file_operators() and bracket == "("


def _check_globals(path: Path, name: str, pickled: bytes) -> None:
    """Refuse a pickle that names anything that TorchScript's own reader does not know."""
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "GLOBAL" and not _TORCHSCRIPT_GLOBAL.fullmatch(str(argument)):
                raise BundleFileError(path, f"{name} holds pickled code: {argument!r:.80}", _REMEDY)
            if opcode.name in _NAMING_OPCODES:
                raise BundleFileError(path, f"{name} holds pickled code ({opcode.name})", _REMEDY)
    except ValueError as error:
        raise BundleFileError(path, f"{name} is not a complete pickle ({error})", _REMEDY) from error


def _check_exported(path: Path) -> None:
    with _records(path) as records:
        records.all_match(_EXPORTED)
        records.needed("archive_format", "archive_version")
        programs = [name for name in records if name.startswith("models/")]
        if not programs:
            raise BundleFileError(path, "holds no program", _REMEDY)
        for name in programs:
            _check_program(path, name, records.json(name))
        for name in records:
            if name.endswith("_config.json"):
                _check_payloads(path, records, name)
            elif name.startswith("data/sample_inputs/"):
                _check_tensors(path, name, records.read(name))


def _check_payloads(path: Path, records: _Records, name: str) -> None:
    """Check that every tensor in a list of weights or constants is read without running code."""
    content = records.json(name)
    listed = content.get("config") if isinstance(content, Mapping) else None
    if not isinstance(listed, Mapping):
        raise BundleFileError(path, f"{name} is no list of tensors", _REMEDY)
    for tensor, declared in listed.items():
        record = declared.get("path_name") if isinstance(declared, Mapping) else None
        place = f"{name.rpartition('/')[0]}/{record}"
        if not re.fullmatch(r"(?:weight|tensor)_\d+", str(record)) or place not in records:
            raise BundleFileError(path, f"{name}: {tensor!r:.80} is in no record of tensors", _REMEDY)
        # torch takes every value that is not false for true.
        if declared.get("use_pickle") is not False:
            _check_tensors(path, place, records.read(place))


def _check_tensors(path: Path, name: str, content: bytes) -> None:
    """Refuse a pickle in an archive that holds more than tensors: torch.export.load would run it."""
    if not content:
        return
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        # On a damaged file, torch's reader raises nearly anything.
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BundleFileError(path, f"{name} holds pickled code, or is damaged ({why:.160})", _REMEDY) from error


def _check_program(path: Path, name: str, content: Any) -> None:
    """Check every text of an exported program that torch looks up, evaluates or writes into code."""
    for key, text in _texts_of(content):
        fits = _FITS.get(key, _is_identifier)
        if not fits(text):
            raise BundleFileError(path, f"{name} could run code: {key} is {text!r:.80}", _REMEDY)


def _texts_of(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts of a program, keys included, with the key above each.

    Metadata is skipped: torch only stores it.
    """
    waiting = [(key, content)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, list):
            waiting += [(key, part) for part in value]
        elif isinstance(value, Mapping):
            yield from (("range_constraints" if key == "range_constraints" else "a key", one) for one in value)
            waiting += [(one, part) for one, part in value.items() if one != "metadata"]


def _is_identifier(text: str) -> bool:
    return _IDENTIFIER.fullmatch(text) is not None


def _is_operator(text: str) -> bool:
    """Return whether a text names an operator that only computes."""
    found = _OPERATOR.fullmatch(text)
    return found is not None and found["name"] not in _file_operators()


def _is_expression(text: str) -> bool:
    """Return whether a text is arithmetic on symbols and numbers with the functions of torch's symbolic shapes."""
    text = _SYMBOL.sub("s0", text)
    return all(
        isinstance(node, _ARITHMETIC)
        and not (isinstance(node, ast.Name) and node.id.startswith("_"))
        and not (isinstance(node, ast.Constant) and not isinstance(node.value, int | float))
        and not (isinstance(node, ast.Call) and not _calls(node, _EXPRESSION_FUNCTIONS))
        for node in _nodes(text)
    )


def _is_guard(text: str) -> bool:
    """Return whether a text only compares sizes of inputs."""
    for node in _nodes(text):
        if isinstance(node, ast.Attribute):
            fits = node.attr in _GUARD_ATTRIBUTES
        elif isinstance(node, ast.Name):
            fits = node.id in _GUARD_NAMES
        elif isinstance(node, ast.Call):
            fits = not node.keywords and (isinstance(node.func, ast.Attribute) or _calls(node, _GUARD_NAMES))
        else:
            fits = isinstance(node, (*_ARITHMETIC, ast.Subscript))
        if not fits:
            return False
    return True


def _nodes(text: str) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Not parsable: return a statement, which is never allowed.
        return [ast.Pass()]


def _calls(node: ast.Call, functions: frozenset[str]) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id in functions and not node.keywords


def _is_container(text: str) -> bool:
    """Return whether inputs and outputs are nested only in Python's own containers."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, Mapping):
            if value.get("type") not in _CONTAINERS or not set(value) <= {"type", "context", "children_spec"}:
                return False
            waiting += value.get("children_spec") or []
    return True


# Key -> check of the text below it; any other text must be a name. Texts that are arguments stay within quotes.
_FITS: dict[str, Callable[[str], bool]] = {
    "target": _is_operator,
    "as_operator": _is_operator,
    "expr_str": _is_expression,
    "range_constraints": _is_expression,
    "guards_code": _is_guard,
    "in_spec": _is_container,
    "out_spec": _is_container,
    "as_string": lambda text: True,
    "as_strings": lambda text: True,
    "torch_version": lambda text: re.fullmatch(r"[\w.+<>=-]*", text) is not None,
}


class _Records:
    """The records of one of torch's archives, by name."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self._path, self._file = path, file
        entries = file.infolist()
        problem = self._problem(entries)
        if problem:
            raise BundleFileError(path, problem, _REMEDY)
        self._entries = {entry.filename.partition("/")[2]: entry for entry in entries}

    def _problem(self, entries: list[zipfile.ZipInfo]) -> str | None:
        """Return how the entries differ from those that torch writes, or None; readers may differ on such archives."""
        names = [entry.filename for entry in entries]
        if not names or len(names) > _MOST_RECORDS:
            return f"an archive of {len(names):,} records"
        if len({name.partition("/")[0] for name in names}) != 1 or not all(name.partition("/")[2] for name in names):
            return "its records do not lie in one folder"
        if any(entry.flag_bits & 1 for entry in entries):
            return "its records are encrypted"
        if self._file.comment or min(entry.header_offset for entry in entries):
            return "holds more than an archive"
        packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        if any(not entry.filename.partition("/")[2].startswith("code/") for entry in packed):
            return "its records are compressed, which torch's never are but for code"
        if sum(entry.file_size for entry in packed) > _MOST_BYTES:
            return "its code unpacks to more than can be checked"
        if sum(entry.compress_size for entry in entries) > self._path.stat().st_size:
            return "its records overlap"
        # torch ignores case in names, and may then read another record than the one that is checked here.
        twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
        return f"{twice[0]!r:.80} is in it twice" if twice else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def all_match(self, pattern: re.Pattern[str]) -> None:
        """Refuse the archive if a record's name does not match."""
        for name in self:
            if not pattern.fullmatch(name):
                problem = f"the record {name!r:.80} has no place in it; such records may be code"
                raise BundleFileError(self._path, problem, _REMEDY)

    def needed(self, *names: str) -> None:
        """Refuse the archive if one of these records is missing."""
        for name in names:
            if name not in self:
                kind = {".ts": "TorchScript", ".pt2": "torch.export"}[self._path.suffix]
                raise BundleFileError(self._path, f"no {kind} file: without {name}", _REMEDY)

    def size(self, name: str) -> int:
        """Return a record's length in bytes."""
        return self._entries[name].file_size

    def read(self, name: str) -> bytes:
        """Return a record's bytes."""
        entry = self._entries[name]
        if entry.file_size > _MOST_BYTES:
            raise BundleFileError(
                self._path, f"{name} has {entry.file_size:,} bytes, more than can be checked", _REMEDY
            )
        with self._file.open(entry) as source:
            return b"".join(iter(lambda: source.read(_CHUNK), b""))

    def json(self, name: str) -> Any:
        """Return the content of a JSON record."""
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise BundleFileError(self._path, f"{name} is not JSON ({error})", _REMEDY) from error


@contextmanager
def _records(path: Path) -> Iterator[_Records]:
    try:
        with opened_zip(path) as file:
            yield _Records(path, file)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError, zlib.error) as error:
        kinds = {".ts": "TorchScript", ".pt2": "torch.export"}
        problem = f"no {kinds.get(path.suffix, 'checkpoint')} file, or one that was cut short ({error})"
        raise BundleFileError(path, problem, _REMEDY) from error


_CHECKS: dict[str, Callable[[Path], None]] = {
    ".pt": _check_state,
    ".ts": _check_torchscript,
    ".pt2": _check_exported,
    ".onnx": check_onnx,
    ".safetensors": _check_safetensors,
}
MODEL_KINDS = frozenset(_CHECKS)
