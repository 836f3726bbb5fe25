"""Importing this ends the program, with a message, where a folder or file called ``common`` hides our package.

Python looks for packages in the current folder first. Our configs import this before they name anything of ``common``:
otherwise a folder of that name gives errors about classes that cannot be located. It must not import ``common`` itself.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def hiding() -> str | None:
    """Return the folder or file that is found as ``common`` in place of our package, or None."""
    found = find_spec("common")
    if found is None:
        return "nothing"
    places = list(found.submodule_search_locations or ())
    if any((Path(place) / "slides" / "slide.py").is_file() for place in places):
        return None
    return places[0] if places else str(found.origin)


if (_hiding := hiding()) is not None:
    raise SystemExit(
        f"error: {_hiding} is found in place of MultiMag's package of the same name, common. Run the command from "
        "another folder, rename yours, or put -P behind python"
    )
