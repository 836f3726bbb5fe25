"""Prepare the folder for results: what an earlier run left is kept."""

from __future__ import annotations

from pathlib import Path


def prepare_output(out: Path, keep: Path | None = None) -> None:
    """Make the folder, and move an earlier run's files, all but one to keep, to ``earlier-1``, ``earlier-2``, … in it.

    Raises:
        OSError: it cannot be written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    probe = out / ".partial-probe"
    probe.touch()
    probe.unlink()
    kept = None if keep is None else keep.resolve()
    before = [path for path in out.iterdir() if not path.name.startswith("earlier-") and path.resolve() != kept]
    if not before:
        return
    number = 1 + sum(1 for path in out.iterdir() if path.name.startswith("earlier-"))
    aside = out / f"earlier-{number}"
    aside.mkdir()
    for path in before:
        path.rename(aside / path.name)
    print(f"the results of an earlier run are in {aside}", flush=True)
