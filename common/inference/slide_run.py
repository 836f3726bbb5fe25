"""A run over slides: a folder for each, finished ones skipped, failures reported at the end."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..classes import ClassScheme
from ..errors import OutputError
from ..files import full_disk_named, inside, safe_name
from ..literal import as_path
from ..maps.grid import TileGrid
from ..maps.store import MapStore
from ..outputs.polygon_options import PolygonOptions
from ..outputs.provenance import Provenance
from ..outputs.writer import OUTPUTS, write_outputs
from ..settings import SettingsError
from ..slides import Slide, SlideChangedError, SlideError, entry_name, open_entry
from .folder import FolderInUseError, SlideFolder

logger = logging.getLogger(__name__)

# A folder, file or link in the place of another kind.
_IN_THE_WAY = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True)
class OpenedSlide:
    """A slide that is being segmented.

    Attributes:
        slide: the slide.
        settings: everything that its outputs depend on, as JSON holds it.
        folder: its output folder, locked.
    """

    slide: Slide
    settings: dict[str, Any]
    folder: SlideFolder


@dataclass(frozen=True)
class MadeMaps:
    """A slide's maps, and what its summary says of how they were made.

    Attributes:
        maps: name -> map on disk, at least ``"labels"``; see :data:`MAPS`.
        grid: their tile grid on the slide.
        method: entries of the summary; at least ``network`` and ``target`` (``mpp`` and ``size``).
        seconds: the time that each step took, at least ``segmentation``.
    """

    maps: Mapping[str, MapStore]
    grid: TileGrid
    method: Mapping[str, Any]
    seconds: Mapping[str, float]


# Return the settings of a slide that is open.
DescribeSlide = Callable[[Slide], dict[str, Any]]
# Return the maps that the named outputs are made of. They may be removed when the context ends.
MakeMaps = Callable[[OpenedSlide, tuple[str, ...]], AbstractContextManager[MadeMaps]]


class SlideRun:
    """A run over slides, each of which is segmented into a folder of its own, with a network or without.

    A finished slide is skipped: only outputs that are missing are added. A folder with the results of other settings
    is refused. A slide that cannot be segmented does not end the run.

    Args:
        output_dir: each slide's outputs go to ``<output_dir>/<slide name>/``.
        outputs: names out of :data:`OUTPUTS`; ``summary.json``, which says how the others were made, is always written.
        scheme: the classes.
        polygons: how ``prediction.geojson`` is made; see :class:`PolygonOptions`.
        provenance: bundle and weights that the summary names.
        overwrite: replace earlier results once the new ones are complete.

    Raises:
        ValueError: an output or a polygon option does not exist.
    """

    def __init__(
        self,
        output_dir: str | Path,
        outputs: Sequence[str],
        scheme: ClassScheme,
        polygons: PolygonOptions | Mapping[str, Any] | None = None,
        provenance: Provenance | None = None,
        overwrite: bool = False,
    ) -> None:
        super().__init__()
        unknown = sorted(set(outputs) - set(OUTPUTS))
        if unknown:
            raise ValueError(f"no outputs {', '.join(unknown)}; there are {', '.join(OUTPUTS)}")
        self.output_dir, self.outputs, self.scheme = Path(as_path(output_dir)), tuple(outputs), scheme
        self.polygons = PolygonOptions.from_config(polygons)
        self.polygons.skipped(scheme)
        self.provenance, self.overwrite = provenance or Provenance(), overwrite
        self._done: list[Path] = []
        self._failed: list[str] = []

    @contextmanager
    def opened(self, item: Mapping[str, Any], describe: DescribeSlide) -> Iterator[OpenedSlide]:
        """Open the slide of a datalist entry and lock its folder."""
        name = item.get("name") or safe_name(entry_name(item))
        folder = SlideFolder(inside(self.output_dir, name))
        with open_entry(item) as slide:
            settings = describe(slide)
            with full_disk_named(folder.path), folder.lock(), _of_one_slide(slide, folder):
                yield OpenedSlide(slide, settings, folder)

    def run_slide(self, item: Mapping[str, Any], describe: DescribeSlide, make_maps: MakeMaps) -> dict[str, Any]:
        """Segment a slide and write the outputs that its folder lacks.

        Args:
            item: the slide's datalist entry, with the ``name`` of its folder.
            describe: returns the slide's settings.
            make_maps: returns its maps.

        Returns:
            The slide's summary, with its ``image`` and its folder as ``output``.

        Raises:
            SlideError: the slide cannot be read correctly.
            SettingsError: its folder holds results of other settings.
            FolderInUseError: another process is at work there.
            OutputError: an output that is asked for cannot be made.
        """
        with self.opened(item, describe) as opened:
            folder = opened.folder
            summary = None if self.overwrite else folder.summary(opened.settings)
            missing = self.outputs if summary is None else folder.missing(self.outputs)
            if summary is None or missing:
                summary = self._make(opened, make_maps, missing, from_scratch=summary is None)
            else:
                logger.info("%s is segmented already; --overwrite True starts over", folder.path)
            folder.discard_work()
        self._done.append(folder.path)
        return {"image": item["image"], "output": str(folder.path), **summary}

    def attempt(
        self, item: Mapping[str, Any], segment: Callable[[Mapping[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return what ``segment`` returns for an entry; where the slide cannot be segmented, log why and return the
        reason as ``error``."""
        try:
            return segment(item)
        except (SlideError, SettingsError, FolderInUseError, OutputError) as error:
            reason = str(error)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            remedy = "It is in the way of the outputs: move it, or choose another output folder"
            reason = f"{error.filename}: {error.strerror}. {remedy}"
        logger.error("left out: %s", reason)
        self._failed.append(reason)
        return {"image": item["image"], "error": reason}

    def finish(self) -> None:
        """Log where the outputs are.

        Raises:
            SystemExit: some slides could not be segmented. The message gives the reason of each; the exit code is 1.
        """
        for folder in self._done:
            logger.info("segmented: %s", folder)
        if self._failed:
            listed = "\n".join(f"  {message}" for message in self._failed)
            total = len(self._done) + len(self._failed)
            raise SystemExit(f"{len(self._failed)} of {total} slides could not be segmented:\n{listed}")

    def _make(
        self, opened: OpenedSlide, make_maps: MakeMaps, outputs: tuple[str, ...], from_scratch: bool
    ) -> dict[str, Any]:
        """Segment a slide and write these outputs. With ``from_scratch`` they replace all that are there."""
        slide, folder = opened.slide, opened.folder
        with make_maps(opened, outputs) as made:
            slide.check_unchanged()
            record = {
                **made.method,
                "settings": opened.settings,
                "seconds": {name: round(seconds, 2) for name, seconds in made.seconds.items()},
                **self.provenance.record(),
            }
            kept = None if from_scratch else folder.path
            with folder.written(replace=from_scratch) as staged:
                return write_outputs(
                    staged, outputs, slide, made.maps, made.grid, self.scheme, record, self.polygons, kept
                )


def slide_settings(slide: Slide) -> dict[str, Any]:
    """Return what identifies a slide's pixels among the settings of its outputs."""
    return {
        "slide": {"file": slide.path.name, "bytes": slide.files.state.size, "modified": slide.files.state.modified},
        "mpp": slide.mpp,
        "backend": slide.backend,
        **({} if slide.series is None else {"series": slide.series}),
    }


@contextmanager
def _of_one_slide(slide: Slide, folder: SlideFolder) -> Iterator[None]:
    """Discard, within, the unfinished maps of a slide that changes: blocks of two slides must not be mixed.

    Pixels that cannot be decoded because the file is being written are no damage of the file.
    """
    try:
        yield
    except SlideError as error:
        change = error if isinstance(error, SlideChangedError) else slide.change()
        if change is None:
            raise
        folder.discard_work()
        raise change from error
