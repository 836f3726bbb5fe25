"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# How the names of what is being written begin.
PARTIAL = ".partial-"


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write a file or folder to; renamed to ``path`` when the block ends well, removed when
    it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name ends as the final one does: libraries choose formats by it.
    partial = path.with_name(f"{_partial()}-{path.name}")
    try:
        yield partial
        if partial.is_dir():
            remove(path)
        os.replace(partial, path)
    finally:
        remove(partial)


def _partial() -> str:
    """No process's on another machine, either, which may have the same number."""
    return f"{PARTIAL}{uuid.uuid4().hex[:8]}"


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that is in it, if it is there. A folder loses its name first, so that it is
    never half there."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if not path.name.startswith(PARTIAL):
        path = path.rename(path.with_name(f"{_partial()}-removed-{path.name}"))
    shutil.rmtree(path)


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as indented JSON, whole."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256(path: str | Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
