"""Errors that all slide backends raise."""

from ..errors import UnreadableFileError


class SlideError(UnreadableFileError):
    """A slide that cannot be read correctly."""


class SlideChangedError(SlideError):
    """A slide whose files changed while it was read: its pixels may come from two versions."""


class UnsupportedLayoutError(SlideError):
    """A file, perhaps sound, with a layout that this backend does not read. Another backend may."""
