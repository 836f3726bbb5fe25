"""The class names of annotation files, and that they are those that reading complains of."""

from __future__ import annotations

import json
import re

import pytest

from common.annotations import AnnotationError, OutlineName, outline_names, read_annotations

SQUARE = [[0, 0], [9, 0], [9, 9], [0, 0]]


def one(name):
    return OutlineName((name,), name)


def feature(kind, coordinates, classification):
    properties = {"classification": classification} if classification else {}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def test_geojson_s_names_are_those_of_areas(tmp_path):
    features = [
        feature("Polygon", [SQUARE], {"name": "Tumor"}),
        feature("MultiPolygon", [[SQUARE]], {"names": ["Tumor", "Positive"]}),
        feature("Polygon", [SQUARE], {"name": "Tumor"}),
        feature("Point", [1, 2], {"name": "Cell"}),
        feature("Polygon", [SQUARE], None),
        {"type": "Feature", "geometry": None, "properties": {"classification": {"name": "Nothing"}}},
    ]
    (tmp_path / "a.GeoJSON").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert outline_names(tmp_path / "a.GeoJSON") == [one("Tumor"), one("Tumor: Positive")]


ASAP = """<ASAP_Annotations><Annotations>
<Annotation Name="1" Type="Polygon" PartOfGroup="lobular"><Coordinates/></Annotation>
<Annotation Name="2" Type="Dot" PartOfGroup="cells"><Coordinates/></Annotation>
<Annotation Name="3" Type="Polygon" PartOfGroup="None"><Coordinates/></Annotation></Annotations>
<AnnotationGroups><Group Name="lobular" PartOfGroup="Tumor"/><Group Name="Tumor" PartOfGroup="None"/></AnnotationGroups>
</ASAP_Annotations>"""


def test_asap_s_groups_come_with_those_above_and_none_is_nobody_s(tmp_path):
    (tmp_path / "a.xml").write_text(ASAP)
    assert outline_names(tmp_path / "a.xml") == [
        OutlineName(("lobular", "Tumor"), "lobular"),
        OutlineName(("None",), None),
    ]


def test_a_region_of_imagescope_is_called_by_its_text_or_its_layer(tmp_path):
    regions = (
        '<Region Type="0" Text="DCIS"/><Region Type="0" NegativeROA="1" Text="hole"/><Region Type="4" Text="ruler"/>'
        '<Region Type="0" Text=""/>'
    )
    text = f'<Annotations><Annotation Id="1" Name="Tumor"><Regions>{regions}</Regions></Annotation></Annotations>'
    (tmp_path / "a.annotations").write_text(text)
    assert outline_names(tmp_path / "a.annotations") == [OutlineName(("DCIS", "Tumor"), "Tumor"), one("Tumor")]


def test_cvat_s_labels_are_those_of_the_slide_s_image(tmp_path):
    shapes = '<polygon label="Tumor" points=""/><points label="cell" points=""/>'
    images = f'<image name="a.png">{shapes}</image><image name="b.png"><box label="Stroma"/></image>'
    (tmp_path / "a.xml").write_text(f"<annotations>{images}</annotations>")
    assert outline_names(tmp_path / "a.xml", "a.svs") == [one("Tumor")]
    assert outline_names(tmp_path / "a.xml", "b.svs") == [one("Stroma")]


def test_label_images_have_no_names(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not looked at")
    assert outline_names(tmp_path / "a.png") == []


@pytest.mark.parametrize(
    ("name", "content"), [("a.json", "[1]"), ("a.xml", "<a"), ("a.xml", "<svg/>"), ("b.xml", None)]
)
def test_what_is_no_annotation_is_named(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(AnnotationError, match=re.escape(name)):
        outline_names(tmp_path / name)


def test_reading_complains_of_the_same_names(tmp_path, scheme):
    square = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(SQUARE[:3]))
    (tmp_path / "a.xml").write_text(ASAP.replace("<Coordinates/>", f"<Coordinates>{square}</Coordinates>"))
    reported = [name.fallback for name in outline_names(tmp_path / "a.xml") if name.fallback]
    with pytest.raises(AnnotationError) as raised:
        read_annotations(tmp_path / "a.xml", scheme)
    assert re.findall(r"'(\w+)' \(\d", str(raised.value)) == reported == ["lobular"]
