"""The errors every slide backend raises."""

from ..errors import UnreadableFileError


class SlideError(UnreadableFileError):
    """A slide that cannot be read rightly."""


class SlideChangedError(SlideError):
    """A slide that became another while it was read: its pixels are of both."""


class UnsupportedLayoutError(SlideError):
    """The file may be sound, but this backend does not read its layout; another one may."""
