"""Zip bundles reproducibly, and unpack them only if nothing in them is out of place."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from ..files import PARTIAL, atomic_write, sha256
from .texts import MOST_PARSED_BYTES, BundleFileError, is_parsed, read_text, size_limit

CHECKSUMS = "SHA256SUMS"
# Kinds of files that a bundle may hold; all others are refused.
KINDS = frozenset(
    f".{kind}"
    for kind in (
        *("py", "yaml", "yml", "json", "conf", "md", "txt", "csv", "png", "jpg", "jpeg", "svg"),
        *("pt", "ts", "pt2", "onnx", "safetensors"),
    )
)
_BARE = frozenset({"LICENSE", CHECKSUMS, ".gitattributes", ".gitignore"})
_TEXTS = frozenset((".py", ".yaml", ".yml", ".json", ".conf", ".md", ".txt", ".csv", ".svg", ""))
_MOST_BYTES, _MOST_FILES = 8 * 2**30, 5000
# Weights hardly shrink in a zip: one that unpacks to much more than itself was made to fill a disk.
_MOST_TIMES, _FROM_BYTES = 100, 2**26
_CHUNK = 2**20
# Bytes of a zip's table of contents, which is read at once.
_LONGEST_READ = 2**22
# Folders that git and hubs keep at the top of a copy.
_KEPT_BY_OTHERS = (".git", ".cache")
_DO_NOT_USE = "A bundle has no such thing. Do not use this file"
_REGULAR = 0o644 | stat.S_IFREG
# The earliest date that the zip format has, so that the same files make the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def files_of(folder: Path) -> list[Path]:
    """Return all files of a bundle, sorted, as paths below ``folder``.

    Files that runs of Python leave behind are skipped (none of them is run when a bundle is checked), and so are the
    folders that git and hubs keep in a copy.
    """
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(
        path
        for path in found
        if "__pycache__" not in path.parts
        and path.parts[0] not in _KEPT_BY_OTHERS
        and not path.name.startswith(PARTIAL)
    )


def left_out_of(folder: Path) -> list[str]:
    """Return the contents of a bundle's folder that :func:`files_of` skips: neither checked nor among the checksums."""
    found = [folder / name for name in _KEPT_BY_OTHERS if os.path.lexists(folder / name)]
    for place, folders, files in os.walk(folder):
        found += [Path(place) / name for name in files if name.startswith(PARTIAL)]
        found += [Path(place) / name for name in folders if name == "__pycache__"]
        folders[:] = [name for name in folders if name != "__pycache__" and Path(place) / name not in found]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def out_of_place(folder: Path) -> Iterator[str]:
    """Yield a problem for each entry of a bundle's folder that must not be opened.

    These are links, pipes and devices, which may lead anywhere or never end; texts larger than any bundle's; and names
    that a terminal might obey.
    """
    parsed = 0
    for number, path in enumerate(_entries(folder)):
        if number == _MOST_FILES:
            yield f"more than {_MOST_FILES:,} files and folders. Leave out what does not belong to the bundle"
            return
        status, name = path.lstat(), path.relative_to(folder).as_posix()
        problem = _oddity(path, name, status)
        if problem:
            yield problem
        elif is_parsed(path):
            parsed += status.st_size
    if parsed > MOST_PARSED_BYTES:
        yield f"{parsed:,} bytes of code and settings; a bundle may have {MOST_PARSED_BYTES:,}. Leave some out"


def _entries(folder: Path) -> Iterator[Path]:
    """Yield files and folders; of linked folders only the link, and nothing that git and hubs keep."""
    for place, folders, files in os.walk(folder):
        if Path(place) == folder:
            folders[:] = [name for name in folders if name not in _KEPT_BY_OTHERS]
        yield from (Path(place) / name for name in sorted((*folders, *files)))


def _oddity(path: Path, name: str, status: os.stat_result) -> str | None:
    if not name.isprintable():
        return f"{name!r}: a name with control characters. Rename it"
    if stat.S_ISLNK(status.st_mode):
        return f"{name}: a link. Put the file itself there, or remove it"
    if stat.S_ISDIR(status.st_mode):
        return None
    if not stat.S_ISREG(status.st_mode):
        return f"{name}: a pipe, socket or device. Remove it"
    if path.suffix in _TEXTS and status.st_size > size_limit(path):
        return f"{name}: {status.st_size:,} bytes; a file of this kind may have {size_limit(path):,}. Leave it out"
    return None


def write_checksums(folder: Path) -> None:
    """Write :data:`CHECKSUMS`, which ``sha256sum -c`` reads too."""
    lines = [f"{sha256(folder / path)}  {path.as_posix()}\n" for path in files_of(folder) if str(path) != CHECKSUMS]
    with atomic_write(folder / CHECKSUMS) as partial:
        partial.write_text("".join(lines), encoding="utf-8")


def check_checksums(folder: Path) -> bool:
    """Compare every file with :data:`CHECKSUMS`.

    Returns:
        False if the bundle has none.

    Raises:
        BundleFileError: a file differs, is missing, or is not listed.
    """
    if not (folder / CHECKSUMS).is_file():
        return False
    remedy = "Get the bundle again from whoever made it; do not use this one"
    listed = {}
    for number, line in enumerate(read_text(folder / CHECKSUMS).removesuffix("\n").split("\n"), 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise BundleFileError(folder / CHECKSUMS, f"line {number} is not a sum and a file's name", remedy)
        listed[name] = digest
    there = {path.as_posix() for path in files_of(folder)} - {CHECKSUMS}
    for name in sorted(there | set(listed)):
        if name not in listed:
            raise BundleFileError(folder / name, f"not among the files of {CHECKSUMS}", remedy)
        if name not in there:
            raise BundleFileError(folder / name, f"{CHECKSUMS} lists it, but it is not there", remedy)
        if sha256(folder / name) != listed[name]:
            raise BundleFileError(folder / name, f"its SHA-256 is not the one in {CHECKSUMS}", remedy)
    return True


def write_zip(folder: Path, path: Path) -> None:
    """Zip a bundle under its folder's name; the same files make the same bytes."""
    with atomic_write(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
        for name in files_of(folder):
            entry = zipfile.ZipInfo(f"{folder.name}/{name.as_posix()}", _DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, _REGULAR << 16
            with (folder / name).open("rb") as source, file.open(entry, "w", force_zip64=True) as to:
                shutil.copyfileobj(source, to, _CHUNK)


@contextmanager
def unpacked(path: str | Path) -> Iterator[Path]:
    """Yield a bundle's folder: the given one, or a temporary one with the checked contents of its zip.

    Raises:
        BundleFileError: see :func:`unpack`.
    """
    path = Path(path)
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="multimag-") as folder:
        yield unpack(path, Path(folder))


def unpack(path: Path, into: Path, most_bytes: int = _MOST_BYTES) -> Path:
    """Unpack a zip with one bundle.

    Names and sizes are checked before anything is written. The folder gets its name once it is complete and all
    checksums agree.

    Args:
        path: the zip.
        into: folder to put the bundle's folder in, which must not exist there yet.
        most_bytes: limit on the bytes of everything unpacked.

    Returns:
        the bundle's folder.

    Raises:
        BundleFileError: the file is no zip, truncated or damaged, or holds a name that leads elsewhere, a link, too
            many files or bytes, files of kinds that no bundle has, wrong checksums, or several folders.
        ValueError: the folder exists already.
    """
    if not path.is_file():
        raise BundleFileError(path, "no such file or folder", "Give a bundle's folder or its zip")
    try:
        with opened_zip(path) as file:
            entries = _checked(path, file.infolist(), most_bytes)
            name = entries[0].filename.split("/")[0]
            target = into / name
            if target.exists():
                raise ValueError(f"{target} is there already. Remove it, or unpack elsewhere")
            with atomic_write(target) as partial:
                _extract(path, file, entries, partial, len(name) + 1)
                _check_sums(path, partial)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError, zlib.error) as error:
        # zipfile raises NotImplementedError for compressions that it does not know.
        remedy = "Get it again; it may have been cut short"
        raise BundleFileError(path, f"not a complete zip file ({error})", remedy) from error
    except OSError as error:
        remedy = "Look whether the disk is full; if not, the zip has names that no bundle has"
        raise BundleFileError(path, f"cannot be unpacked ({error.strerror or error})", remedy) from error
    return target


class _BoundedFile(io.FileIO):
    """A zip file whose table of contents is refused, not read into memory, if it is longer than any bundle's."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read no more than :data:`_LONGEST_READ` bytes at once."""
        left = os.fstat(self.fileno()).st_size - self.tell()
        if (left if size is None or size < 0 else min(size, left)) > _LONGEST_READ:
            raise zipfile.BadZipFile("the list of what is in it is too long")
        return super().read(size) or b""


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip for reading.

    Raises:
        zipfile.BadZipFile: the file is no zip, or lists more than any bundle holds.
    """
    with _BoundedFile(path) as raw, zipfile.ZipFile(raw) as file:
        yield file


def _check_sums(path: Path, folder: Path) -> None:
    try:
        check_checksums(folder)
    except BundleFileError as error:
        inside = error.path.relative_to(folder)
        raise BundleFileError(path, f"{inside}: {error.problem}", error.remedy) from error


def _checked(path: Path, entries: list[zipfile.ZipInfo], most_bytes: int) -> list[zipfile.ZipInfo]:
    """Check all entries, and return those that are files."""
    remedy = _DO_NOT_USE
    seen: set[str] = set()
    for entry in entries:
        name = entry.orig_filename
        problem = _problem(entry, name)
        if problem is None and name.casefold() in seen:
            problem = "is in it twice"
        if problem:
            raise BundleFileError(path, f"{name!r} {problem}", remedy)
        seen.add(name.casefold())
    files = [entry for entry in entries if not entry.is_dir()]
    total = sum(entry.file_size for entry in files)
    if total > most_bytes or len(files) > _MOST_FILES:
        limits = f"more than {most_bytes:,} bytes or {_MOST_FILES:,} files"
        raise BundleFileError(path, f"would unpack to {total:,} bytes in {len(files):,} files, {limits}", remedy)
    if total > max(_FROM_BYTES, _MOST_TIMES * path.stat().st_size):
        problem = f"{path.stat().st_size:,} bytes would unpack to {total:,}, as no bundle does"
        raise BundleFileError(path, problem, remedy)
    _check_sizes(path, files)
    # Entries may share their bytes, and so unpack to far more than the file could hold.
    if sum(entry.compress_size for entry in files) > path.stat().st_size:
        raise BundleFileError(path, "its files overlap", remedy)
    roots = {entry.filename.split("/")[0] for entry in entries}
    if not files or len(roots) != 1 or any("/" not in entry.filename for entry in files):
        problem = f"must hold one folder, the bundle's, not {', '.join(sorted(roots)[:3]) or 'nothing'}"
        raise BundleFileError(path, problem, "Zip the bundle's folder itself, or export it again")
    return files


def _check_sizes(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse texts that are larger than any bundle's, before they are unpacked."""
    parsed = 0
    for entry in entries:
        name = Path(entry.filename)
        if name.suffix in _TEXTS and entry.file_size > size_limit(name):
            problem = f"{entry.filename!r} has {entry.file_size:,} bytes; such a file may have {size_limit(name):,}"
            raise BundleFileError(path, problem, _DO_NOT_USE)
        parsed += entry.file_size if is_parsed(name) else 0
    if parsed > MOST_PARSED_BYTES:
        problem = f"{parsed:,} bytes of code and settings; a bundle may have {MOST_PARSED_BYTES:,}"
        raise BundleFileError(path, problem, _DO_NOT_USE)


def _problem(entry: zipfile.ZipInfo, name: str) -> str | None:
    pure = PurePosixPath(name)
    if "\\" in name or not name.isprintable():
        return "is a name that not every system reads in the same way"
    if pure.is_absolute() or PureWindowsPath(name).drive or ":" in name:
        return "is an absolute path"
    parts = name.removesuffix("/").split("/")
    if {"", ".", ".."} & set(parts):
        return "leads out of the bundle's folder, or not straight into it"
    if "__pycache__" in parts or any(part.startswith(PARTIAL) for part in parts):
        return "is what a program left behind"
    if any(part.startswith(".") and part not in _BARE for part in parts):
        return "is hidden: such files are not among the checksums"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind and not (stat.S_ISDIR(kind) if entry.is_dir() else stat.S_ISREG(kind)):
        return "is a link or a device"
    if entry.flag_bits & 1:
        return "is encrypted"
    if not entry.is_dir() and not is_of_a_bundle(pure):
        return "is no kind of file that a bundle is made of"
    return None


def is_of_a_bundle(name: PurePosixPath | Path) -> bool:
    """Return whether a bundle may hold a file of this kind."""
    return name.name in _BARE or name.suffix in KINDS


def _extract(path: Path, file: zipfile.ZipFile, entries: list[zipfile.ZipInfo], folder: Path, cut: int) -> None:
    for entry in entries:
        to = folder / entry.filename[cut:]
        if not to.resolve().is_relative_to(folder.resolve()):
            raise BundleFileError(path, f"{entry.filename!r} leads out of the bundle's folder", "Do not use this file")
        to.parent.mkdir(parents=True, exist_ok=True)
        with file.open(entry) as source, to.open("xb") as target:
            written = _copy(source, target, entry.file_size)
        if written != entry.file_size:
            raise BundleFileError(path, f"{entry.filename!r} is not as long as the zip says", "Get it again")


def _copy(source: IO[bytes], target: IO[bytes], most: int) -> int:
    written = 0
    while block := source.read(_CHUNK):
        written += len(block)
        if written > most:
            break
        target.write(block)
    return written
