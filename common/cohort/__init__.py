"""Many slides: on the workers of one machine, or of a Ray cluster.

Imports nothing: a new worker's process sets itself up before libraries are imported.
"""
