"""The documentation says nothing that is not so: links lead somewhere, commands and options exist."""

from __future__ import annotations

import ast
import re

import fire
import pytest

from common.__main__ import COMMANDS
from common.bundle.keys import check_keys, config_files
from common.cli.dispatch import run
from tests.conftest import DMMN, REPOSITORY
from tests.docs.pages import PAGES, commands, name_of, without_code

_MONAI = "monai.bundle"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page):
    for path in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", without_code(page)):
        assert (page.parent / path).exists(), path


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


_OURS = [(name_of(page), words[1:]) for page in PAGES for words in commands(page) if words[0] == "multimag"]


@pytest.mark.parametrize(("page", "words"), _OURS, ids=lambda value: value if isinstance(value, str) else value[0])
def test_every_command_of_a_page_is_one_that_multimag_takes(page, words, monkeypatch):
    monkeypatch.setattr(fire, "Fire", lambda *_, **__: None)
    run(COMMANDS, words)


_BUNDLES = [(page, words[words.index(_MONAI) + 2 :]) for page in PAGES for words in commands(page) if _MONAI in words]


@pytest.mark.parametrize(
    ("page", "words"), _BUNDLES, ids=lambda value: "" if isinstance(value, list) else name_of(value)
)
def test_configs_and_keys_of_every_bundle_run_of_a_page_are_known(page, words):
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert all(key.startswith("--") for key in options), words
    listed = options.pop("--config_file")
    names = ast.literal_eval(listed) if listed.startswith("[") else [listed]
    bundle = page.parent.parent if page.match("bundles/*/docs/*.md") else DMMN
    files = config_files(bundle, [name.split("configs/", 1)[-1] for name in names])
    options.pop("--run_id", None)
    check_keys(files, [key.removeprefix("--") for key in options])
