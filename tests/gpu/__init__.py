"""The GPU kit: see README.md."""
