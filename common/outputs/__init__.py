"""The files of a segmented slide, made from its maps: label pyramid, polygons, overlay, summary, NIfTI, DICOM."""
