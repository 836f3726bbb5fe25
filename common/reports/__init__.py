"""Make tables, figures and pages from numbers that other rooms measure."""

from ..renamed import renamed_in

__getattr__ = renamed_in(__name__)
