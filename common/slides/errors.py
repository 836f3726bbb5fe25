"""The errors every slide backend raises."""

from ..errors import UnreadableFileError


class SlideError(UnreadableFileError):
    """A slide that cannot be read correctly."""


class SlideChangedError(SlideError):
    """A slide whose files changed while it was read, so that its pixels may come from two versions."""


class UnsupportedLayoutError(SlideError):
    """The file may be sound, but this backend does not read its layout; another one may."""
