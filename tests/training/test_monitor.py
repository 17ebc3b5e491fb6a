"""What a run tells."""

import io
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


@pytest.fixture
def tensorboard(tmp_path):
    """What TensorBoard reads of the runs in `tmp_path`."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return lambda: accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()


def test_tensorboard_gets_the_same_numbers_and_pictures(tmp_path, tensorboard):
    monitor = Monitor(TrainConfig(out=tmp_path / "run"))
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    monitor.line(1, loss=0.5, missing=None)
    monitor.line(2, loss=0.25, photo=1.0)
    monitor.picture(2, "faces", picture)
    found = tensorboard()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert found.Tags()["scalars"] == ["loss", "photo"]
    (image,) = found.Images("faces")
    decoded = np.array(Image.open(io.BytesIO(image.encoded_image_string)))
    assert image.step == 2 and (decoded == picture).all()


def test_tensorboard_forgets_what_a_resumed_run_tells_again(tmp_path, tensorboard):
    config = TrainConfig(out=tmp_path / "run")
    killed = Monitor(config)
    for iteration in (2, 4, 6):
        killed.line(iteration, loss=float(iteration))
    resumed = Monitor(config)
    resumed.forget_after(4)
    resumed.line(6, loss=7.0)
    events = tensorboard().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(2, 2.0), (4, 4.0), (6, 7.0)]
