"""Splines of ASAP, Aperio ImageScope, HALO and CVAT, on a slide of 100 x 120 pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from common.annotations import AnnotationError, read_annotations
from common.annotations.spline import closed_spline
from common.slides import open_slide

CARCINOMA, BENIGN, STROMA = 1, 2, 4
WHOLE = ((50, 60), 0.5, (100, 120))


@pytest.fixture
def slide(tmp_path):
    Image.fromarray(np.full((100, 120, 3), 200, dtype=np.uint8)).save(tmp_path / "slide.png")
    return open_slide(tmp_path / "slide.png", mpp=0.5)


def read(tmp_path, scheme, slide, text, name="a.xml", **arguments):
    (tmp_path / name).write_text(text)
    return read_annotations(tmp_path / name, scheme, **arguments).label_map(slide, *WHOLE)


def vertices(tag, *points):
    return "".join(f'<{tag} X="{x}" Y="{y}"/>' for x, y in points)


def disc(y, x, down, across):
    rows, columns = np.mgrid[:100, :120] + 0.5
    return ((rows - y) / down) ** 2 + ((columns - x) / across) ** 2 < 1


# ---- ASAP


def test_a_closed_spline_meets_its_points_and_is_smooth():
    """Through points on a circle the centripetal spline stays within 1 % of it."""
    angle = np.arange(8) * np.pi / 4
    points = [(50 + 30 * np.cos(a), 50 + 30 * np.sin(a)) for a in angle]
    outline = np.array(closed_spline(points))
    radius = np.hypot(*(outline - 50).T)
    assert np.abs(radius - 30).max() < 0.3
    assert np.abs(outline[:, None] - np.array(points)[None]).sum(axis=2).min(axis=0).max() < 1e-9
    turn = np.diff(np.unwrap(np.arctan2(*np.diff(outline, axis=0, append=outline[:1]).T)))
    assert np.abs(turn).max() < 2 * np.pi / len(outline) * 2.5


def test_asap_splines_are_curves(tmp_path, slide, scheme):
    points = "".join(
        f'<Coordinate Order="{i}" X="{60 + 30 * np.cos(i * np.pi / 6)}" Y="{50 + 30 * np.sin(i * np.pi / 6)}"/>'
        for i in range(12)
    )
    text = (
        '<ASAP_Annotations><Annotations><Annotation Name="s" Type="Spline" PartOfGroup="stroma"><Coordinates>'
        f'{points}</Coordinates></Annotation></Annotations><AnnotationGroups><Group Name="stroma"/></AnnotationGroups>'
        "</ASAP_Annotations>"
    )
    found = read(tmp_path, scheme, slide, text) == STROMA
    circle = np.pi * 30**2
    # Straight lines between the twelve points would leave 4.5 % out.
    assert found.sum() == pytest.approx(circle, rel=0.01)
    assert (found != disc(50, 60, 30, 30)).sum() < 0.01 * circle


# ---- ImageScope and HALO

IMAGESCOPE = f"""<?xml version="1.0" encoding="UTF-8"?><Annotations MicronsPerPixel="0.5">
<Annotation Id="1" Name="carcinoma" LineColor="255"><Attributes><Attribute Name="Description" Value="x"/></Attributes>
<Regions><RegionAttributeHeaders/>
<Region Id="1" Type="0" Text="" NegativeROA="0"><Vertices>
{vertices("Vertex", (10, 10), (70, 10), (70, 60), (10, 60))}</Vertices></Region>
<Region Id="2" Type="0" Text="" NegativeROA="1"><Vertices>
{vertices("Vertex", (20, 20), (40, 20), (40, 40), (20, 40))}</Vertices></Region>
<Region Id="3" Type="1" Text="benign epithelial" NegativeROA="0"><Vertices>
{vertices("Vertex", (80, 10), (110, 10), (110, 30), (80, 30))}</Vertices></Region>
<Region Id="4" Type="3" Text="see here" NegativeROA="0"><Vertices>
{vertices("Vertex", (1, 1), (5, 5))}</Vertices></Region>
</Regions></Annotation>
<Annotation Id="2" Name=""><Regions><Region Id="1" Type="2" NegativeROA="0"><Vertices>
{vertices("Vertex", (60, 50), (110, 90))}</Vertices></Region></Regions></Annotation></Annotations>"""


def test_imagescope_layers_texts_holes_and_ellipses(tmp_path, slide, scheme):
    with pytest.raises(AnnotationError, match="'layer 2'.*class_map"):
        read(tmp_path, scheme, slide, IMAGESCOPE)
    found = read(tmp_path, scheme, slide, IMAGESCOPE, class_map={"layer 2": "stroma"})
    expected = np.zeros((100, 120), dtype=np.uint8)
    expected[10:60, 10:70] = CARCINOMA
    expected[20:40, 20:40] = 0
    expected[10:30, 80:110] = BENIGN
    oval = disc(70, 85, 20, 25)
    assert np.array_equal(found[~oval & (found != STROMA)], expected[~oval & (found != STROMA)])
    assert ((found == STROMA) != oval).sum() < 12


HALO = f"""<Annotations><Annotation LineColor="65280" Name="stroma" Visible="True"><Regions>
<Region Type="Polygon" HasEndcaps="0" NegativeROA="0"><Vertices>
{vertices("V", (5, 5), (95, 5), (95, 85), (5, 85))}</Vertices><Comments/></Region>
<Region Type="Rectangle" HasEndcaps="0" NegativeROA="1"><Vertices>
{vertices("V", (40, 40), (20, 20))}</Vertices></Region>
<Region Type="Ruler" NegativeROA="0"><Vertices>{vertices("V", (0, 0), (9, 9))}</Vertices></Region>
</Regions></Annotation></Annotations>"""


@pytest.mark.parametrize("name", ["a.xml", "a.annotations"])
def test_halo_layers_and_negative_regions(tmp_path, slide, scheme, name, caplog):
    found = read(tmp_path, scheme, slide, HALO, name)
    expected = np.zeros((100, 120), dtype=np.uint8)
    expected[5:85, 5:95] = STROMA
    expected[20:40, 20:40] = 0
    assert np.array_equal(found, expected)
    assert "1 regions without area" in caplog.text


# ---- CVAT

CVAT = """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta/>
<image id="0" name="other.png" width="120" height="100"/>
<image id="1" name="batch/slide.jpg" width="60" height="50">
<box label="carcinoma" xtl="20" ytl="10" xbr="40" ybr="20" z_order="1" rotation="90"/>
<polygon label="stroma" points="5,5;50,5;50,40;5,40" z_order="0"/>
<mask label="benign epithelial" rle="1,2,2,1" left="52" top="4" width="3" height="2" z_order="0"/>
<points label="stroma" points="1,1"/></image></annotations>"""


def test_cvat_shapes_in_order_from_a_picture_of_half_the_size(tmp_path, slide, scheme):
    found = read(tmp_path, scheme, slide, CVAT, image="slide.svs")
    expected = np.zeros((50, 60), dtype=np.uint8)
    expected[5:40, 5:50] = STROMA
    expected[5:25, 25:35] = CARCINOMA
    expected[4, 53:55] = expected[5, 54] = BENIGN
    assert np.array_equal(found, expected.repeat(2, axis=0).repeat(2, axis=1))
    (tmp_path / "a.xml").write_text(CVAT)
    with pytest.raises(AnnotationError, match=r"0 of its images are called 'x'; it has other\.png, batch/slide\.jpg"):
        read_annotations(tmp_path / "a.xml", scheme, image="x.svs")


def test_a_cvat_picture_of_other_proportions_is_refused(tmp_path, slide, scheme):
    with pytest.raises(AnnotationError, match="at any scale"):
        read(tmp_path, scheme, slide, CVAT.replace('width="60"', 'width="80"'), image="slide.svs")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CVAT.replace('<image id="0"', "<track/><image"), "video export"),
        (CVAT.replace('height="50"', 'height="0"'), r"image 'batch/slide\.jpg' is of 60 x 0 pixels"),
        (CVAT.replace('width="60"', 'width="wide"'), r"image 'batch/slide\.jpg' is of wide x 50 pixels"),
        (HALO.replace('X="95"', 'X="nan"'), "not a number"),
        (HALO.replace('X="95"', ""), "not a number"),
    ],
)
def test_files_without_anything_usable_say_why(tmp_path, slide, scheme, text, says):
    with pytest.raises(AnnotationError, match=says):
        read(tmp_path, scheme, slide, text, image="slide.svs")
