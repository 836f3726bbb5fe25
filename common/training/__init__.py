"""Handlers and workflows that train."""
