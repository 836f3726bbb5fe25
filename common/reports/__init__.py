"""Tables, figures and pages, made from numbers that others measured."""

from ..renamed import renamed_in

__getattr__ = renamed_in(__name__)
