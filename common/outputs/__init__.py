"""The files of a segmented slide, made from its maps: TIFF, polygons, pictures, summary, NIfTI, DICOM, OME-Zarr."""
