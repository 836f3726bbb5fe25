"""DICOM slides by URL: the files in a store's folder that belong to one slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import PurePosixPath

from ..data.dicom_series import series_uid
from .locations import filesystem, folder_of, is_listable, name_of, redact_url
from .retry import retry

_SUFFIX = ".dcm"
# Headers read at the same time: nearly all of the time is spent waiting for the server.
_READER_THREADS = 32


def first_instances(locations: Sequence[str]) -> list[str]:
    """Return the URLs of slides, with only the first instance of each DICOM slide in a folder.

    Raises:
        ValueError: a folder holds several DICOM files, and pydicom, which tells their slides apart, is missing.
        OSError: the store does not answer.
    """
    listed = list(dict.fromkeys(locations))
    dicom = [one for one in listed if name_of(one).lower().endswith(_SUFFIX)]
    folders = Counter(folder_of(one) for one in dicom)
    several = [one for one in dicom if folders[folder_of(one)] > 1]
    if several and find_spec("pydicom") is None:
        raise ValueError(
            f"{redact_url(several[0])}: the slides of several DICOM files in one folder cannot be told apart without "
            "pydicom. Install it (pip install -e '.[dicom]'), or name one file of each slide"
        )
    with ThreadPoolExecutor(_READER_THREADS) as pool:
        series = dict(zip(several, pool.map(_series, several), strict=True))
    first: dict[tuple[str, str], str] = {}
    for one in several:
        if series[one] is not None:
            first.setdefault((folder_of(one), str(series[one])), one)
    return [one for one in listed if series.get(one) is None or first[folder_of(one), str(series[one])] == one]


def slides_of_remote_folder(location: str) -> list[str]:
    """Return one instance of each DICOM slide in a remote folder; none for a file, or a folder without DICOM files."""
    is_file = PurePosixPath(name_of(location)).suffix and not location.endswith("/")
    if is_file or not is_listable(location):
        return []
    files, path = filesystem(location)
    found = retry(lambda: sorted(files.find(path.rstrip("/"), maxdepth=1)), redact_url(location))
    return first_instances([files.unstrip_protocol(one) for one in found if one.lower().endswith(_SUFFIX)])


def _series(location: str) -> str | None:
    files, path = filesystem(location)

    def read() -> str | None:
        with files.open(path, "rb") as file:
            return series_uid(file)

    try:
        return retry(read, redact_url(location))
    except FileNotFoundError:  # reported when the slide's size is asked for
        return None
