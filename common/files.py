"""Write files atomically, and make names safe for file systems and terminals."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .renamed import renamed_in

# Errors of the system that mean a full disk, an exhausted quota or a file at its size limit.
DISK_FULL_ERRNOS = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))
# Free bytes of a disk below which a failure without a reason is taken for a full disk.
_ROOM = 2**16
# Prefix of the names of unfinished files and folders.
PARTIAL = ".partial-"
# Largest number of bytes in a name: file systems allow 255, and partial files, caches and locks add to it.
_LONGEST = 180
# Characters that Windows does not allow in names, and "/".
_NOT_IN_NAMES = frozenset('<>:"/\\|?*')
# Control characters, line and paragraph separators, and bytes of a name that are not UTF-8.
_UNPRINTED = frozenset(("Cc", "Zl", "Zp", "Cs"))
# Invisible characters that reverse or join their neighbours.
_INVISIBLE = frozenset("\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Names that Windows reserves for devices, whatever ending follows.
_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)

__getattr__ = renamed_in(__name__)


class DiskFullError(OSError):
    """A disk is full; the error names the file or folder."""


@contextmanager
def full_disk_named(path: str | Path) -> Iterator[None]:
    """Name ``path`` in the block's errors of a full disk: the system's often name no file.

    Raises:
        DiskFullError: instead of such an error.
    """
    try:
        yield
    except DiskFullError:
        raise
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        raise DiskFullError(error.errno, error.strerror, str(path)) from error


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a path next to ``path`` to write a file or folder to.

    When the block ends, it is renamed to ``path``; if the block raises, it is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name has the final one's ending, by which libraries choose formats.
    partial = path.with_name(f"{_partial()}-{path.name}")
    try:
        with full_disk_named(path):
            yield partial
        if partial.is_dir():
            remove(path)
        os.replace(partial, path)
    except RuntimeError as error:
        # torch.save does not tell why a write failed.
        if _is_full(path.parent):
            raise DiskFullError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        remove(partial)


def _is_full(folder: Path) -> bool:
    """Return whether a folder's disk is full; False if the folder is gone."""
    try:
        return shutil.disk_usage(folder).free < _ROOM
    except OSError:
        return False


def _partial() -> str:
    """Return a prefix that no other process has, on any machine: process numbers may repeat."""
    return f"{PARTIAL}{uuid.uuid4().hex[:8]}"


def remove(path: Path) -> None:
    """Delete a file, or a folder with its contents, if it exists.

    A folder is renamed first, so that it is never incomplete under its own name.
    """
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if not path.name.startswith(PARTIAL):
        path = path.rename(path.with_name(f"{_partial()}-removed-{path.name}"))
    shutil.rmtree(path)


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with atomic_write(path) as partial:
        partial.write_bytes(utf8(json.dumps(content, indent=2, ensure_ascii=False) + "\n"))


def utf8(text: str) -> bytes:
    """Encode a text as UTF-8.

    Python keeps a byte of a file name that is not UTF-8 as a surrogate. It becomes an escape, which JSON reads as the
    same surrogate.
    """
    return text.encode("utf-8", errors="backslashreplace")


def sha256(path: str | Path) -> str:
    """Return the file's SHA-256 in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_name(name: str) -> str:
    """Return a name that every file system allows for one file or folder, and that leads nowhere else.

    Ordinary names are unchanged. ``_`` replaces separators, characters that Windows does not allow, and dots at either
    end: ``S21/1234`` becomes ``S21_1234``. Accented letters become one character, since macOS may write them as two. A
    name of a Windows device gets a ``_`` in front. A long name is cut and ends with a part of its SHA-256.

    Raises:
        ValueError: the name is empty.
    """
    text = unicodedata.normalize("NFC", name).strip()
    if not text:
        raise ValueError(f"{name!r} cannot be the name of a folder")
    safe = "".join("_" if _is_unsafe(character) else character for character in text)
    # Names that begin with a dot are hidden or lead elsewhere; Windows drops dots at the end.
    safe = re.sub(r"^\.+|\.+$", lambda dots: "_" * len(dots[0]), safe)
    if _DEVICES.match(safe):
        safe = f"_{safe}"
    return safe if len(safe.encode()) <= _LONGEST else _shortened(safe, name)


def printable(text: str) -> str:
    """Return a text with control characters and changes of direction, which a terminal might obey, as escape sequences.

    Line feeds stay.
    """
    if text.isprintable():
        return text
    return "\n".join(map(printable_line, text.split("\n")))


def printable_line(text: str) -> str:
    """Return a text on one line: everything that a terminal might obey, and line feeds, become escape sequences."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def same_name(name: str) -> str:
    """Return a key that is equal for names that are one file on a file system that ignores case."""
    return unicodedata.normalize("NFC", name.casefold())


def inside(folder: str | Path, name: str) -> Path:
    """Return the path of a name in a folder.

    Raises:
        ValueError: the name leads out of the folder, or is the folder.
    """
    path = Path(os.path.normpath(Path(folder) / name))
    if Path(os.path.normpath(folder)) not in path.parents:
        raise ValueError(f"{name!r} leads out of {folder}. Choose another name")
    return path


def _is_unsafe(character: str) -> bool:
    return character in _NOT_IN_NAMES or character in _INVISIBLE or unicodedata.category(character) in _UNPRINTED


def _shortened(safe: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = safe.encode()[: _LONGEST - len(digest) - 1].decode(errors="ignore")
    return f"{kept.rstrip()}-{digest}"
