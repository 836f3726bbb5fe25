"""What a segmented slide yields: label pyramid, polygons, overlay, summary, NIfTI."""
