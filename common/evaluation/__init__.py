"""Score segmented slides: files of slides and their annotations in, numbers out."""

from ..renamed import renamed_in

__getattr__ = renamed_in(__name__)
