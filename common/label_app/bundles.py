"""Bundles that the app serves: a copy of each to train in, each with its own modules."""

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
from ..files import sha256, written_whole
from ..literal import literal
from ..networks.checkpoint_metadata import metadata_path
from ..networks.checkpoints import read_state
from ..sharing.archive import check_checksums, files_of, is_of_a_bundle, unpacked
from ..sharing.closure import NAME
from ..sharing.settings import SCRIPTS, parsed

_ORIGIN = ".origin"


@dataclass(frozen=True)
class ServedBundle:
    """A bundle's copy.

    Attributes:
        name: of the bundle, and of the model in MONAI Label.
        folder: the copy.
        package: under which its modules are imported, if it carries them.
    """

    name: str
    folder: Path
    package: str | None

    @property
    def checkpoint(self) -> Path:
        """The weights."""
        return self.folder / "models" / "model.pt"

    @property
    def knows_origins(self) -> bool:
        """Whether its code reads an entry's ``origin``; that of exports from before there was one passes it over."""
        return self.package is None or (self.folder / SCRIPTS / "slides" / "bounds.py").is_file()

    def metadata(self) -> dict[str, Any]:
        """Its ``metadata.json``."""
        return json.loads((self.folder / "configs" / "metadata.json").read_text(encoding="utf-8"))

    def parser(self, config: str) -> ConfigParser:
        """One of its configs, of its own modules: of another bundle's, results would be another's."""
        parser = parsed(self.folder / "configs" / config, self.package or NAME)
        parser["bundle_root"] = literal(str(self.folder))
        return parser


def serve(path: Path, work: Path) -> ServedBundle:
    """Copy a bundle (folder or zip) to ``work``, if this one is not there yet, and make its modules importable.

    Raises:
        BundleFileError, ValueError: the zip is out of order, sums are wrong, or the weights are not only tensors.
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
    """Return the parts of a bundle, without the results and caches that runs leave in its folder.

    Weights other than the model's would be the same, or be out of date once it is trained.
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
    with written_whole(folder) as partial:
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
