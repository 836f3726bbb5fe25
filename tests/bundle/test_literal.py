"""Texts that MONAI's parser would change."""

from __future__ import annotations

import shlex

import fire
import pytest
from monai.bundle import ConfigParser

from common.bundle.run import command_line
from common.classes import ClassScheme
from common.literal import as_path, literal

NAMES = [
    "run #1",
    "/data/S#1/a b.svs",
    "it's #1",
    'a "#1"',
    'it\'s "#1"',
    "back\\slash#\\",
    "new\nline#",
    "組織 #1 😀",
    "#",
    "100% #1 $x @y",
    "a@::b",
    "a%#b",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_passes_through_monai_as_it_is(name):
    parser = ConfigParser({"a": literal(name), "list": literal([name, "plain"]), "below": "$@a + '/x'", "same": "@a"})
    found = [parser.get_parsed_content(key) for key in ("a", "list", "below", "same")]
    assert found == [name, [name, "plain"], f"{name}/x", name]


@pytest.mark.parametrize("name", NAMES)
def test_without_it_monai_changes_the_text(name):
    assert ConfigParser({"a": name}).get_parsed_content("a") != name


@pytest.mark.parametrize("value", ["plain", "50% a@b", "$1 + 1", "@a#b", "%a#b", 1, 0.5, True, None, [1], {"a": "b"}])
def test_other_values_stay(value):
    assert literal(value) == value


@pytest.mark.parametrize("name", [*NAMES, "2023", "1.10", "True", "None", "[a]", "a,b", "plain"])
def test_the_equal_command_passes_names_through_shell_fire_and_monai(tmp_path, name):
    words = shlex.split(command_line(tmp_path, [tmp_path / "a.yaml"], {"slides": name, "several": [name, "b"]}))
    given = fire.Fire(lambda **options: options, command=words[4:])
    parser = ConfigParser({key: given[key] for key in ("slides", "several")})
    assert parser.get_parsed_content("slides") == name
    assert parser.get_parsed_content("several") == [name, "b"]


def test_a_path_that_monai_changed_is_refused_and_can_be_pasted():
    with pytest.raises(ValueError, match=r"^run ::1: MONAI reads # in a path as ::") as failure:
        as_path("run ::1")
    pasted = str(failure.value).split(" as ")[-1]
    assert ConfigParser({"a": shlex.split(pasted)[0]}).get_parsed_content("a") == "run #1"


def test_a_folder_called_by_a_number_is_a_folder():
    assert as_path(2023) == "2023"
    for value in (1.1, True, None):
        with pytest.raises(ValueError, match="is no path"):
            as_path(value)


@pytest.mark.parametrize("name", ["CK5#6", "CK5::6", "$x", "@tumour", "%area"])
def test_classes_that_a_config_cannot_name_are_refused(name):
    with pytest.raises(ValueError, match=r"MONAI's configs read # as ::.*Rename the class"):
        ClassScheme([{"name": name, "color": (0, 0, 0), "label": 1, "channel": 0}])


def test_classes_may_have_the_characters_elsewhere():
    names = ["50 % tumour", "a@b", "cost $"]
    config = {
        "_target_": "common.classes.ClassScheme",
        "classes": [{"name": n, "color": [0, 0, 0], "label": i + 1, "channel": i} for i, n in enumerate(names)],
    }
    assert ConfigParser({"scheme": config}).get_parsed_content("scheme").names == names
