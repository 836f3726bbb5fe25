"""Copy the bundles that the app serves, to train in the copies, and import each one's own modules."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..errors import UnreadableFileError
from ..files import atomic_write, sha256
from ..literal import literal
from ..networks.checkpoint_metadata import metadata_path
from ..networks.checkpoints import read_state
from ..sharing.archive import check_checksums, files_of, is_of_a_bundle, unpacked
from ..sharing.closure import NAME
from ..sharing.settings import SCRIPTS, parsed

_ORIGIN = ".origin"


@dataclass(frozen=True)
class ServedBundle:
    """A copy of a bundle.

    Attributes:
        name: name of the bundle, and of the model in MONAI Label.
        folder: folder of the copy.
        package: package name of its modules, if it carries any.
    """

    name: str
    folder: Path
    package: str | None

    @property
    def checkpoint(self) -> Path:
        """Path of the weights."""
        return self.folder / "models" / "model.pt"

    @property
    def knows_origins(self) -> bool:
        """True if its code reads an entry's ``origin``; the code of older exports ignores it."""
        return self.package is None or (self.folder / SCRIPTS / "slides" / "bounds.py").is_file()

    def metadata(self) -> dict[str, Any]:
        """Return the content of its ``metadata.json``."""
        return json.loads((self.folder / "configs" / "metadata.json").read_text(encoding="utf-8"))

    def parser(self, config: str) -> ConfigParser:
        """Return the parser of one of its configs, with its own modules: another bundle's could differ."""
        parser = parsed(self.folder / "configs" / config, self.package or NAME)
        parser["bundle_root"] = literal(str(self.folder))
        return parser


def serve(path: Path, work: Path) -> ServedBundle:
    """Copy a bundle (folder or zip) to ``work``, unless it is there already, and make its modules importable.

    Raises:
        BundleFileError: the zip is damaged or not allowed, or checksums are wrong.
        ValueError: the weights hold more than tensors, or the folder of the copy holds another bundle.
    """
    with unpacked(path) as source:
        check_checksums(source)
        if not (source / "models" / "model.pt").is_file():
            raise ValueError(f"{path} has no models/model.pt. Export the bundle with a checkpoint, or train it")
        read_state(source / "models" / "model.pt")
        folder = work / source.name
        origin = _fingerprint(source)
        if not (folder / _ORIGIN).is_file() or (folder / _ORIGIN).read_text(encoding="utf-8") != origin:
            _copy(source, folder, origin)
    return ServedBundle(folder.name, folder, _imported(folder))


def _fingerprint(source: Path) -> str:
    digest = hashlib.sha256()
    for path in _parts(source):
        digest.update(f"{path.as_posix()} {sha256(source / path)}\n".encode())
    return digest.hexdigest()


def _parts(source: Path) -> list[Path]:
    """Return the files of a bundle, without the results and caches that runs leave in its folder.

    Further files of weights hold the same as the model's, and would be out of date once it is trained.
    """
    wanted = ("configs", "docs", SCRIPTS)
    found = [path for path in files_of(source) if path.parts[0] in wanted and is_of_a_bundle(path)]
    weights = Path("models") / "model.pt"
    described = [metadata_path(weights)] if metadata_path(source / weights).is_file() else []
    return [*found, Path("LICENSE"), weights, *described]


def _copy(source: Path, folder: Path, origin: str) -> None:
    if folder.exists():
        raise ValueError(
            f"{folder} holds another bundle of that name, which may have been trained there. Move it, or choose "
            "another --work"
        )
    with atomic_write(folder) as partial:
        for path in _parts(source):
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, partial / path)
        (partial / _ORIGIN).write_text(origin, encoding="utf-8")


def _imported(folder: Path) -> str | None:
    """Import the bundle's package under a name that no other bundle has."""
    init = folder / SCRIPTS / "__init__.py"
    if not init.is_file():
        return None
    name = f"bundle_{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(init.parent)])
        if spec is None or spec.loader is None:
            raise UnreadableFileError(init, "cannot be imported", "Export the bundle again")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return name
