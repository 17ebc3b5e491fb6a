"""What a run tells."""

import json

import numpy as np
import pytest
from PIL import Image

from mofaface.training import monitor as module
from mofaface.training.config import TrainConfig
from mofaface.training.monitor import Monitor


@pytest.fixture
def monitor(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_tensorboard", lambda folder: None)
    return Monitor(TrainConfig(out=tmp_path / "run"))


def lines(monitor):
    return [json.loads(line) for line in (monitor.folder / "log.jsonl").read_text().splitlines()]


def test_line_holds_what_is_given(monitor):
    assert monitor.line(2, loss=2.0, land=None) == {"iteration": 2, "loss": 2.0, "land": None}
    monitor.line(3)
    assert lines(monitor) == [{"iteration": 2, "loss": 2.0, "land": None}, {"iteration": 3}]


def test_resumed_run_drops_the_lines_that_it_writes_again(monitor):
    for iteration in (0, 2, 4, 6):
        monitor.line(iteration)
    with open(monitor.folder / "log.jsonl", "a") as file:
        file.write('{"iteration": 8, "lo')  # a run that was killed while writing
    monitor.forget_after(4)
    assert [line["iteration"] for line in lines(monitor)] == [0, 2, 4]
    monitor.forget_after(4)


def test_picture_is_saved_under_its_iteration(monitor):
    monitor.picture(12, "faces", np.zeros((4, 5, 3), np.uint8))
    with Image.open(monitor.folder / "faces-000012.png") as picture:
        assert picture.size == (5, 4)


def test_tensorboard_gets_the_same_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    monitor = Monitor(TrainConfig(out=tmp_path / "run"))
    monitor.line(1, loss=0.5, missing=None)
    monitor.picture(1, "faces", np.zeros((4, 5, 3), np.uint8))
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    monitor.close()
