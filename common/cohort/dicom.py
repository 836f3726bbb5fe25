"""DICOM slides by URL: which files of a store's folder are of one slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import PurePosixPath

from ..data.dicom_series import series_uid
from .locations import filesystem, folder_of, lists_files, name_of, shown
from .patience import patiently

_SUFFIX = ".dcm"
# Files whose headers are read at a time: nearly all of it is waiting for a server.
_READERS = 32


def first_instances(locations: Sequence[str]) -> list[str]:
    """Return URLs of slides with, of several instances of one DICOM slide in a folder, only the first.

    Raises:
        ValueError: several DICOM files lie in one folder, and pydicom, which tells of which slide they are, is missing.
        OSError: the store does not answer.
    """
    listed = list(dict.fromkeys(locations))
    dicom = [one for one in listed if name_of(one).lower().endswith(_SUFFIX)]
    folders = Counter(folder_of(one) for one in dicom)
    several = [one for one in dicom if folders[folder_of(one)] > 1]
    if several and find_spec("pydicom") is None:
        raise ValueError(
            f"{shown(several[0])}: of which slide the DICOM files of a folder are cannot be told without pydicom. "
            "Install it (pip install -e '.[dicom]'), or name one file of each slide"
        )
    with ThreadPoolExecutor(_READERS) as pool:
        series = dict(zip(several, pool.map(_series, several), strict=True))
    first: dict[tuple[str, str], str] = {}
    for one in several:
        if series[one] is not None:
            first.setdefault((folder_of(one), str(series[one])), one)
    return [one for one in listed if series.get(one) is None or first[folder_of(one), str(series[one])] == one]


def slides_of_remote_folder(location: str) -> list[str]:
    """Return an instance of each DICOM slide in the folder that a URL names; none for a file, or a folder without
    DICOM files."""
    is_file = PurePosixPath(name_of(location)).suffix and not location.endswith("/")
    if is_file or not lists_files(location):
        return []
    files, path = filesystem(location)
    found = patiently(lambda: sorted(files.find(path.rstrip("/"), maxdepth=1)), shown(location))
    return first_instances([files.unstrip_protocol(one) for one in found if one.lower().endswith(_SUFFIX)])


def _series(location: str) -> str | None:
    files, path = filesystem(location)

    def read() -> str | None:
        with files.open(path, "rb") as file:
            return series_uid(file)

    try:
        return patiently(read, shown(location))
    except FileNotFoundError:  # which is told when the slide is looked up
        return None
