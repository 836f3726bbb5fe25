"""Label maps as DICOM segmentations."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..classes import ClassScheme
from ..errors import OutputError
from ..files import atomic_write
from ..slides import Slide

if TYPE_CHECKING:
    from ..maps.store import MapStore

# Pixels. highdicom builds the object in memory from one array and the frames of every class.
_LARGEST = 2**31
_TILE = 512
# Part of what UIDs are derived from: the same slide always has the same.
_ROOT = "multimag"


def check_dicom(path: Path, shape: tuple[int, int]) -> None:
    """Raise :class:`OutputError` if a DICOM segmentation of this shape cannot be made here."""
    if find_spec("highdicom") is None:
        raise OutputError(f"{path}: needs highdicom. Install multimag[dicom]")
    if shape[0] * shape[1] > _LARGEST:
        problem = f"{path}: a label map of {shape[0]} x {shape[1]} pixels is too large for a DICOM segmentation"
        raise OutputError(f"{problem}; use prediction.tif")


def write_dicom(path: Path, slide: Slide, store: MapStore, mpp: float, scheme: ClassScheme, made_by: str) -> None:
    """Write the label map as a tiled binary segmentation with one segment per class.

    It lies in the slide's own frame of reference. Study, patient and frame of reference of a DICOM slide are those of
    its file; of any other slide they are derived from the file's name.

    Args:
        path: path of the file, which is written atomically.
        slide: the slide.
        store: its label map.
        mpp: µm per pixel of the label map.
        scheme: the classes. Their codes are private, as a scheme holds only names.
        made_by: text that distinguishes this segmentation from others of the slide, for its UIDs.

    Raises:
        OutputError: highdicom is not installed, or the map is too large to build the object in memory.
    """
    check_dicom(path, store.shape)
    import highdicom

    labels = np.concatenate(list(store.bands(store.chunk)))
    source = _source(slide)
    spacing = mpp / 1000
    measures = highdicom.PixelMeasuresSequence(pixel_spacing=(spacing, spacing), slice_thickness=_thickness(source))
    segmentation = highdicom.seg.Segmentation(
        source_images=[source],
        pixel_array=labels[None],
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_segments(scheme),
        series_instance_uid=_uid(slide, "series", made_by),
        series_number=1,
        sop_instance_uid=_uid(slide, "segmentation", made_by),
        instance_number=1,
        manufacturer="MultiMag",
        manufacturer_model_name="MultiMag",
        software_versions=__version__,
        device_serial_number="1",
        content_label="TISSUE_CLASSES",
        content_description="Tissue classes of a slide",
        pixel_measures=measures,
        plane_positions=[_position(source, spacing)],
        plane_orientation=highdicom.PlaneOrientationSequence("SLIDE", source.ImageOrientationSlide),
        tile_pixel_array=True,
        tile_size=(_TILE, _TILE),
    )
    # Unknown for a slide, but the element must be present.
    segmentation.PatientOrientation = None
    with atomic_write(path) as partial:
        segmentation.save_as(partial)


def _segments(scheme: ClassScheme) -> list[Any]:
    import highdicom
    from pydicom.sr.coding import Code

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="MultiMag", family=Code("123109", "DCM", "Artificial Intelligence"), version=__version__
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=tissue_class.label,
            segment_label=tissue_class.name,
            segmented_property_category=Code("85756007", "SCT", "Tissue"),
            segmented_property_type=Code(str(tissue_class.label), "99MULTIMAG", tissue_class.name),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor.from_rgb(*tissue_class.color),
        )
        for tissue_class in scheme.classes
    ]


def _source(slide: Slide) -> Any:
    """Return the slide's DICOM header: derived from the file's name and, for a DICOM slide, updated with its own."""
    from pydicom import dcmread
    from pydicom.misc import is_dicom

    source = _derived_header(slide)
    if is_dicom(slide.path):
        source.update(dcmread(slide.path, stop_before_pixels=True))
    return source


def _derived_header(slide: Slide) -> Any:
    """Return the header of a slide in another format, with UIDs derived from its name, size and shape."""
    import highdicom
    from pydicom.dataset import Dataset
    from pydicom.uid import VLWholeSlideMicroscopyImageStorage

    height, width = slide.shape
    source = Dataset()
    source.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    source.SOPInstanceUID = _uid(slide, "image")
    source.StudyInstanceUID = _uid(slide, "study")
    source.SeriesInstanceUID = _uid(slide, "image series")
    source.FrameOfReferenceUID = _uid(slide, "frame of reference")
    source.PositionReferenceIndicator = "SLIDE_CORNER"
    source.Modality = "SM"
    source.PatientID = source.PatientName = source.PatientBirthDate = source.PatientSex = ""
    source.StudyID = source.AccessionNumber = source.StudyDate = source.StudyTime = ""
    source.ReferringPhysicianName = ""
    source.ContainerIdentifier = slide.name[:64]
    source.IssuerOfTheContainerIdentifierSequence = []
    source.ContainerTypeCodeSequence = []
    specimen = highdicom.SpecimenDescription(specimen_id=slide.name[:64], specimen_uid=_uid(slide, "specimen"))
    source.SpecimenDescriptionSequence = [specimen]
    source.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    source.ImageOrientationSlide = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem = origin.YOffsetInSlideCoordinateSystem = 0.0
    source.TotalPixelMatrixOriginSequence = [origin]
    source.TotalPixelMatrixRows, source.TotalPixelMatrixColumns = height, width
    source.Rows = source.Columns = _TILE
    source.NumberOfFrames = -(-height // _TILE) * -(-width // _TILE)
    source.ImagedVolumeHeight, source.ImagedVolumeWidth = (side * slide.mpp / 1000 for side in slide.shape)
    source.ImagedVolumeDepth = 0.001
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [slide.mpp / 1000, slide.mpp / 1000]
    measures.SliceThickness = 0.001
    shared.PixelMeasuresSequence = [measures]
    source.SharedFunctionalGroupsSequence = [shared]
    return source


def _position(source: Any, spacing: float) -> Any:
    """Return the position of the label map's first pixel.

    In DICOM that is the pixel's centre, which differs from the centre of the slide's smaller first pixel.
    """
    import highdicom

    origin = source.TotalPixelMatrixOriginSequence[0]
    first = np.array([origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem, 0.0], dtype=float)
    pixel = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    along = np.array(source.ImageOrientationSlide, dtype=float).reshape(2, 3)
    # The first direction is along a row, from column to column; in PixelSpacing that distance comes second.
    first += (along * [[(spacing - pixel[1]) / 2], [(spacing - pixel[0]) / 2]]).sum(axis=0)
    return highdicom.PlanePositionSequence("SLIDE", image_position=first.tolist(), pixel_matrix_position=(1, 1))


def _thickness(source: Any) -> float:
    measures = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    return float(getattr(measures, "SliceThickness", 0.001))


def _uid(slide: Slide, *what: str) -> str:
    from pydicom.uid import generate_uid

    of_file = [slide.name, str(slide.files.state.size), *map(str, slide.shape)]
    series = [] if slide.series is None else [f"series {slide.series}"]
    return generate_uid(entropy_srcs=[_ROOT, *what, *of_file, *series])
