"""Write one page that shows a run: slides, scores, curves, settings."""

from .page import write_report

__all__ = ["write_report"]
