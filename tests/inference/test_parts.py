"""A slide in parts, predicted apart and put together."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from common.errors import UnreadableFileError
from common.inference import InferenceOptions, SettingsError, WholeSlideInferer
from tests.conftest import ramp, write_pyramid
from tests.inference.test_resume import OUTPUTS, VIEW, Stepwise, contents


@pytest.fixture
def slide(tmp_path) -> str:
    # 9 x 9 targets, 25 blocks of 2 x 2.
    return str(write_pyramid(tmp_path / "s.tif", [ramp(48, 48).repeat(12, 0).repeat(12, 1)], (0.5, 0.5)))


def inferer(out: Path, scheme, **options) -> WholeSlideInferer:
    return WholeSlideInferer(
        [VIEW], VIEW, scheme, out, OUTPUTS, options=InferenceOptions(batch_size=4, block=2, **options)
    )


def parts_of(slide: str, out: Path, scheme, count: int, **options) -> list[Path]:
    items = ({"image": slide, "name": f"part{number}"} for number in range(count))
    return [
        inferer(out, scheme, **options).predict_part(item, Stepwise(), (number, count))
        for number, item in enumerate(items)
    ]


def test_parts_of_a_slide_are_put_together_as_if_it_had_been_predicted_at_once(slide, scheme, tmp_path):
    inferer(tmp_path / "whole", scheme).segment_slide({"image": slide}, whole := Stepwise())
    parts = parts_of(slide, tmp_path / "parts", scheme, 4)
    together = inferer(tmp_path / "together", scheme)
    # One is missing: its blocks are predicted here. Another comes twice, after a kill that cut the log off.
    together.adopt_parts({"image": slide}, Stepwise(), parts[:1])
    with (tmp_path / "together" / "s" / ".unfinished" / "blocks.txt").open("a") as log:
        log.write("12")
    together.adopt_parts({"image": slide}, Stepwise(), [parts[0], *parts[2:]])
    together.segment_slide({"image": slide}, rest := Stepwise())
    assert whole.calls == 25
    assert rest.calls == 6
    assert contents(tmp_path / "together" / "s") == contents(tmp_path / "whole" / "s")


def test_parts_of_other_settings_and_damaged_ones_are_refused(slide, scheme, tmp_path):
    ours, theirs = parts_of(slide, tmp_path / "a", scheme, 2), parts_of(slide, tmp_path / "b", scheme, 2, overlap=0.5)
    together = inferer(tmp_path / "together", scheme)
    with pytest.raises(SettingsError, match=r"overlap is 0.0 there, 0.5 now"):
        together.adopt_parts({"image": slide}, Stepwise(), [ours[0], theirs[1]])
    damaged = bytearray(ours[1].read_bytes())
    with zipfile.ZipFile(ours[1]) as archive:
        chunk = next(info for info in archive.infolist() if "/c/" in info.filename)
    damaged[chunk.header_offset + 30 + len(chunk.filename) + chunk.file_size // 2] ^= 255
    ours[1].write_bytes(damaged)
    with pytest.raises(UnreadableFileError, match=r"part1/part.zip: no part of a slide, or damaged.*made again"):
        together.adopt_parts({"image": slide}, Stepwise(), [ours[1]])
    together.segment_slide({"image": slide}, rest := Stepwise())
    assert rest.calls == 25 - 12


def test_damaged_progress_of_a_slide_is_not_taken_for_a_damaged_part(slide, scheme, tmp_path, caplog):
    first, second = parts_of(slide, tmp_path / "parts", scheme, 2)
    together = inferer(tmp_path / "together", scheme)
    together.adopt_parts({"image": slide}, Stepwise(), [first])
    settings = tmp_path / "together" / "s" / ".unfinished" / "settings.json"
    settings.write_text('{"slide": ')
    together.adopt_parts({"image": slide}, Stepwise(), [second])
    assert f"{settings} is damaged: the slide is started over" in caplog.text
    together.segment_slide({"image": slide}, rest := Stepwise())
    assert rest.calls == 12
