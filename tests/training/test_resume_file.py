"""The file that a training resumes from, damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.training.resume import ResumeCheckpoint


def read(path: Path) -> object:
    point = ResumeCheckpoint.__new__(ResumeCheckpoint)
    point.path = path
    return point._read()


def test_a_restart_file_that_is_not_one_is_refused_with_a_remedy(tmp_path):
    path = tmp_path / "restart.pt"
    assert read(path) is None
    torch.save({"weights": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    for content, said in (
        (whole[: len(whole) // 2], "cannot be read"),
        (b"", "cannot be read"),
        (whole, "it lacks training, epoch, network, optimizer, lr_scheduler, best_metric, best_metric_epoch, best"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said) as refused:
            read(path)
        assert "Move it away to start over" in str(refused.value)
        assert str(path) in str(refused.value)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds no state to resume from"):
        read(path)
