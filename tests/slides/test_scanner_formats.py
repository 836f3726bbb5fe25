"""Scanners' own containers, written here as far as OpenSlide needs them: found by content, read through OpenSlide."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

from common.slides import SlideError, open_slide

SIZES = (256, 128, 64)
JPEG = {"compression": "jpeg", "compressionargs": {"level": 98, "outcolorspace": "RGB"}, "photometric": "rgb"}


def gradient(side: int) -> np.ndarray:
    """A level of a picture that is red to the right and green to the bottom, smooth enough for JPEG to keep."""
    at = (np.arange(side) + 0.5) / side * 200 + 20
    picture = np.full((side, side, 3), 90.0)
    picture[..., 0], picture[..., 1] = at[None], at[:, None]
    return np.round(picture).astype(np.uint8)


LEVELS = [gradient(side) for side in SIZES]


def jpeg(pixels: np.ndarray) -> bytes:
    """Baseline JPEG with a restart marker after every row of blocks."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=98, subsampling=0, restart_marker_rows=1)
    return file.getvalue()


def philips(path):
    """Philips TIFF: XML in the description says each level's pixel spacing in mm."""
    spacings = "".join(
        '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" '
        f'Element="0x0030" PMSVR="IDoubleArray">&quot;{0.0005 * 256 / side}&quot; &quot;{0.0005 * 256 / side}&quot;'
        f'</Attribute><Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_NUMBER" Group="0x301D" Element="0x2009" '
        f'PMSVR="IUInt16">{number}</Attribute></DataObject>'
        for number, side in enumerate(SIZES)
    )
    description = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport"><Attribute Name='
        '"PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003" PMSVR="IDataObjectArray"><Array><DataObject '
        'ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004" '
        'PMSVR="IString">WSI</Attribute><Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" '
        'PMSVR="IDoubleArray">&quot;0.0005&quot; &quot;0.0005&quot;</Attribute><Attribute Name='
        '"PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x1001" Element="0x8B01" PMSVR="IDataObjectArray"><Array>'
        f"{spacings}</Array></Attribute></DataObject></Array></Attribute></DataObject>"
    )
    with tifffile.TiffWriter(path / "a.tiff") as writer:
        for number, level in enumerate(LEVELS):
            options = {"software": "Philips DP v1.0", "description": description} if number == 0 else {}
            writer.write(level, tile=(64, 64), metadata=None, subfiletype=int(number > 0), **options, **JPEG)
    return path / "a.tiff", "philips", 0


def leica(path, levels=LEVELS, corner=(4, 4), canvas=(264, 264), name="a.scn", planes=1):
    """Leica SCN: XML in the description says which pages are levels of which focal plane, and size and corner (row,
    column) of the view on the canvas in nm, 500 a pixel. Planes after the first have its colours inverted."""
    height, width = levels[0].shape[:2]
    zs = [f'z="{z}" ' if planes > 1 else "" for z in range(planes)]
    dimensions = "".join(
        f'<dimension sizeX="{level.shape[1]}" sizeY="{level.shape[0]}" r="{n}" {zs[z]}ifd="{len(levels) * z + n}"/>'
        for z in range(planes)
        for n, level in enumerate(levels)
    )
    description = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:1">'
        f'<collection name="c" uuid="urn:uuid:2" sizeX="{canvas[1] * 500}" sizeY="{canvas[0] * 500}">'
        "<barcode></barcode>"
        '<image name="image_0" uuid="urn:uuid:3"><creationDate>2011-11-02T13:57:05.89Z</creationDate>'
        '<device model="Leica SCN400" version="1.4"/>'
        f'<pixels sizeX="{width}" sizeY="{height}">{dimensions}</pixels>'
        f'<view sizeX="{width * 500}" sizeY="{height * 500}" offsetX="{corner[1] * 500}" offsetY="{corner[0] * 500}" '
        'spacingZ="0"/>'
        "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
        "<numericalAperture>0.75</numericalAperture><illuminationSource>brightfield</illuminationSource>"
        "</illuminationSettings></scanSettings></image></collection></scn>"
    )
    with tifffile.TiffWriter(path / name, bigtiff=True) as writer:
        for number, level in enumerate([*levels, *[255 - level for level in levels] * (planes - 1)]):
            options = {"description": description} if number == 0 else {}
            scale = {"resolution": (2e4 / 2 ** (number % len(levels)),) * 2, "resolutionunit": "CENTIMETER"}
            writer.write(level, tile=(64, 64), metadata=None, **options, **scale, **JPEG)
    return path / name, "leica", corner[0]


def hamamatsu_vms(path, layers=1):
    """Hamamatsu VMS: an index of JPEG files; sizes in nm."""
    (path / "image.jpg").write_bytes(jpeg(LEVELS[0]))
    (path / "map.jpg").write_bytes(jpeg(LEVELS[2]))
    (path / "macro.jpg").write_bytes(jpeg(LEVELS[2]))
    other_layers = "".join(f"ImageFile({layer})=map.jpg\n" for layer in range(1, layers))
    (path / "a.vms").write_text(
        f"[Virtual Microscope Specimen]\nNoLayers={layers}\nNoJpegColumns=1\nNoJpegRows=1\nImageFile=image.jpg\n"
        f"{other_layers}MapFile=map.jpg\nMacroImage=macro.jpg\nPhysicalWidth=128000\nPhysicalHeight=128000\nSourceLens=20\n"
    )
    return path / "a.vms", "hamamatsu", 0


def hamamatsu_ndpi(path, offsets=(0,)):
    """NDPI: a TIFF with 64-bit places of the next page, one JPEG per page and tags of its own; focal planes at
    ``offsets``, of which the one at 0 has the colours of the others inverted, and a macro."""
    content = bytearray(struct.pack("<2sHQ", b"II", 42, 0))
    previous = 4
    planes = [(side, level, z, 20 * side / 256) for z in offsets for side, level in zip(SIZES, LEVELS, strict=True)]
    for side, level, offset, magnification in [*planes, (SIZES[2], LEVELS[2], 7 if len(offsets) > 1 else 0, -1.0)]:
        data = jpeg(level if offset == 0 else 255 - level)
        place = len(content)
        content += data
        content += b"\0" * (len(content) % 2)
        resolution = len(content)
        content += struct.pack("<II", 20000 * side // 256, 1)
        tags = [
            (256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 7), (262, 3, 6), (273, 4, place), (277, 3, 3),
            (278, 4, side), (279, 4, len(data)), (282, 5, resolution), (283, 5, resolution), (296, 3, 3),
            (65420, 4, 1), (65421, 11, struct.unpack("<I", struct.pack("<f", magnification))[0]), (65424, 9, offset),
        ]  # fmt: skip
        struct.pack_into("<Q", content, previous, len(content))
        content += struct.pack("<H", len(tags))
        for tag, kind, value in tags:
            content += struct.pack("<HHIi" if value < 0 else "<HHII", tag, kind, 1, value)
        previous = len(content)
        content += struct.pack("<Q", 0)
        content += b"\0" * 4 * len(tags)
    (path / "a.ndpi").write_bytes(content)
    return path / "a.ndpi", "hamamatsu", 0


def mirax(path, hierarchies="", first=(0, 0)):
    """MIRAX: an ini file, an index of the JPEG tiles of each zoom level, and a file of tiles; no camera positions.
    Tiles of level 0 above or left of ``first`` (row, column) are left out, as glass that was not scanned."""
    folder = path / "a"
    folder.mkdir()
    levels = "".join(f"HIER_0_VAL_{n}_SECTION=LEVEL_{n}\n" for n in range(3))
    sections = "".join(
        f"[LEVEL_{n}]\nOVERLAP_X=0\nOVERLAP_Y=0\nMICROMETER_PER_PIXEL_X={0.5 * 2**n}\nMICROMETER_PER_PIXEL_Y="
        f"{0.5 * 2**n}\nIMAGE_FORMAT=JPEG\nIMAGE_FILL_COLOR_BGR=16777215\nDIGITIZER_WIDTH=64\nDIGITIZER_HEIGHT=64\n"
        f"IMAGE_CONCAT_FACTOR={min(n, 1)}\n"
        for n in range(3)
    )
    (folder / "Slidedat.ini").write_text(
        "[GENERAL]\nSLIDE_ID=1234\nIMAGENUMBER_X=4\nIMAGENUMBER_Y=4\nOBJECTIVE_MAGNIFICATION=20\n"
        f"CameraImageDivisionsPerSide=4\n[HIERARCHICAL]\nHIER_COUNT={1 + bool(hierarchies)}\nNONHIER_COUNT=0\n"
        f"INDEXFILE=Index.dat\nHIER_0_NAME=Slide zoom level\nHIER_0_COUNT=3\n{levels}{hierarchies}[DATAFILE]\n"
        f"FILE_COUNT=1\nFILE_0=Data0000.dat\n{sections}"
    )
    data, pages = bytearray(b"01.021234" + bytes(8)), []
    for number, level in enumerate(LEVELS):
        step, side = 2**number, SIZES[number]
        entries = []
        for y in range(0, side, 64):
            for x in range(0, side, 64):
                if number == 0 and (y < first[0] or x < first[1]):
                    continue
                tile = jpeg(level[y : y + 64, x : x + 64])
                entries.append((y // 64 * step * 4 + x // 64 * step, len(data), len(tile), 0))
                data += tile
        pages.append(entries)
    (folder / "Data0000.dat").write_bytes(data)
    index = bytearray(b"01.021234" + struct.pack("<ii", 17, 0) + bytes(4 * len(pages)))
    for number, entries in enumerate(pages):
        struct.pack_into("<i", index, 17 + 4 * number, len(index))
        index += struct.pack("<ii", 0, len(index) + 8)
        index += struct.pack("<ii", len(entries), 0)
        for entry in entries:
            index += struct.pack("<iiii", *entry)
    (folder / "Index.dat").write_bytes(index)
    (path / "a.mrxs").write_bytes(b"")
    return path / "a.mrxs", "mirax", 0


def ventana(path, layers=""):
    """Ventana BIF: XML packets name scanner and joints of tiles; these are numbered from the bottom, to and fro."""

    def number(row: int, column: int) -> int:
        up = 3 - row
        return up * 4 + (3 - column if up % 2 else column) + 1

    def joint(one: tuple[int, int], two: tuple[int, int], direction: str) -> str:
        return (
            f'<TileJointInfo Confidence="100" Direction="{direction}" Tile1="{number(*one)}" Tile2="{number(*two)}" '
            'OverlapX="0" OverlapY="0"/>'
        )

    joints = [joint((r, c), (r, c + 1), "RIGHT") for r in range(4) for c in range(3)]
    joints += [joint((r + 1, c), (r, c), "UP") for r in range(3) for c in range(4)]
    stitching = (
        '<EncodeInfo Ver="2"><SlideStitchInfo><ImageInfo AOIScanned="1" Width="64" Height="64" NumRows="4" NumCols="4" '
        f'Pos-X="0" Pos-Y="0">{"".join(joints)}</ImageInfo></SlideStitchInfo><AoiOrigin><AOI0 OriginX="0" OriginY="0"/>'
        "</AoiOrigin></EncodeInfo>"
    )
    scanner = f'<iScan Magnification="20" ScanRes="0.5" UnitNumber="1"{layers}/>'

    def packet(text: str) -> list:
        return [(700, "B", len(text), text.encode(), True)]

    with tifffile.TiffWriter(path / "a.bif", bigtiff=True) as writer:
        label = {"description": "Label Image", "extratags": packet(scanner), "metadata": None}
        writer.write(LEVELS[2], photometric="rgb", **label)
        for level, pixels in enumerate(LEVELS):
            extra = {"extratags": packet(stitching)} if level == 0 else {}
            description = f"level={level} mag={20 / 2**level} quality=95"
            writer.write(pixels, tile=(64, 64), metadata=None, description=description, **extra, **JPEG)
    return path / "a.bif", "ventana", 0


def dicom(path, **attributes):
    """DICOM: one file per level, tiles as encapsulated JPEG frames, spacing in mm."""
    series, study = generate_uid(), generate_uid()
    for number, level in enumerate(LEVELS):
        side = SIZES[number]
        tiles = [level[y : y + 64, x : x + 64] for y in range(0, side, 64) for x in range(0, side, 64)]
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = VLWholeSlideMicroscopyImageStorage, generate_uid()
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.Modality = series, study, "SM"
        dataset.ImageType = ["ORIGINAL" if number == 0 else "DERIVED", "PRIMARY", "VOLUME"]
        dataset.ImageType = [*dataset.ImageType, "NONE" if number == 0 else "RESAMPLED"]
        dataset.Rows = dataset.Columns = 64
        dataset.TotalPixelMatrixRows = dataset.TotalPixelMatrixColumns = side
        dataset.NumberOfFrames, dataset.DimensionOrganizationType = len(tiles), "TILED_FULL"
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "YBR_FULL_422", 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        measures, groups, optical = Dataset(), Dataset(), Dataset()
        measures.PixelSpacing = [0.0005 * 256 / side] * 2
        groups.PixelMeasuresSequence = [measures]
        dataset.SharedFunctionalGroupsSequence = [groups]
        optical.OpticalPathIdentifier = "1"
        dataset.OpticalPathSequence, dataset.NumberOfOpticalPaths = [optical], 1
        for name, value in attributes.items():
            setattr(dataset, name, value)
        dataset.PixelData = encapsulate([jpeg(tile) for tile in tiles])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.save_as(path / f"{number}.dcm", enforce_file_format=True)
    return path / "0.dcm", "dicom", 0


@pytest.mark.parametrize("make", [philips, leica, hamamatsu_vms, hamamatsu_ndpi, mirax, ventana, dicom])
def test_scanner_formats_are_recognised_and_read_where_they_should(make, tmp_path):
    path, vendor, margin = make(tmp_path)
    slide = open_slide(path)
    assert (slide.backend, slide.properties["openslide.vendor"]) == ("openslide", vendor)
    assert slide.shape == (256 + 2 * margin, 256 + 2 * margin)
    assert slide.mpp == pytest.approx(0.5, rel=1e-3)
    for mpp in (0.5, 1.0, 2.0):
        size = int(128 / mpp)
        expected = LEVELS[0].reshape(size, 256 // size, size, 256 // size, 3).mean(axis=(1, 3))
        found = slide.read((128 + margin, 128 + margin), mpp, size, level_tolerance=0)
        assert np.abs(found - expected).mean() < 1.5, mpp


ZSTACK = "".join(
    f"HIER_1_VAL_{n}={name}\n" for n, name in enumerate(["ExtFocusLevel", "ZStackLevel_(-1)", "ZStackLevel_(1)"])
)
STACKS = {
    "NDPI": (lambda path: hamamatsu_ndpi(path, (-100, 0, 100)), "3 focal planes; the one at offset 0 is read"),
    "VMS": (lambda path: hamamatsu_vms(path, 2), "2 focal planes; layer 0 is read"),
    "MIRAX": (
        lambda path: mirax(path, f"HIER_1_NAME=Microscope focus level\nHIER_1_COUNT=3\n{ZSTACK}"),
        "2 focal planes; the scanner's default one is read",
    ),
    "SCN": (lambda path: leica(path, planes=2), "2 focal planes; plane 0 is read"),
    "BIF": (lambda path: ventana(path, ' Z-layers="5"'), "5 focal planes; the nominal one is read"),
}


@pytest.mark.parametrize(("make", "said"), STACKS.values(), ids=STACKS)
def test_of_a_stack_of_focal_planes_the_scanners_own_is_read_with_a_warning(make, said, tmp_path, caplog):
    path, _, margin = make(tmp_path)
    slides = [open_slide(path), open_slide(path)]
    found = slides[0].read((128 + margin, 128 + margin), 0.5, 256, level_tolerance=0)
    assert np.abs(found - LEVELS[0].astype(float)).mean() < 1.5
    assert said in slides[0].remark
    # Workers open a slide many times.
    assert [said in record.message for record in caplog.records if "focal" in record.message] == [True]


@pytest.mark.parametrize("make", [philips, leica, hamamatsu_vms, hamamatsu_ndpi, mirax, ventana, dicom])
def test_a_slide_of_one_focal_plane_is_opened_without_a_remark(make, tmp_path):
    assert open_slide(make(tmp_path)[0]).remark == ""


def test_focal_planes_and_channels_of_which_none_is_the_slide_are_refused(tmp_path):
    (tmp_path / "planes").mkdir()
    with pytest.raises(SlideError, match="it has 3 focal planes. Export one plane"):
        open_slide(dicom(tmp_path / "planes", TotalPixelMatrixFocalPlanes=3)[0])
    (tmp_path / "paths").mkdir()
    with pytest.raises(SlideError, match=r"it has 2 channels \(optical paths\)"):
        open_slide(dicom(tmp_path / "paths", NumberOfOpticalPaths=2)[0])
    filters = "HIER_1_NAME=Slide filter level\nHIER_1_COUNT=3\n" + ZSTACK.replace("Focus", "Filter")
    with pytest.raises(SlideError, match=r"it has 3 channels \(filters\)"):
        open_slide(mirax(tmp_path, filters)[0])
