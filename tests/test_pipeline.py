"""Photos in stages: the same entries, folders and numbers as one by one, whatever happens to some of them."""

import _thread
import json
import signal
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from face_photos import EXAMPLES, needs_examples
from little_face import little_model
from little_photo import BOXES, little_reconstructor
from test_report import photos, read_report

import mofaface
from mofaface.crop import cut_crop
from mofaface.photo import Photo
from mofaface.pipeline import PHOTOS_PER_WORKER, Stages, process_in_stages
from mofaface.reconstruct import Found
from mofaface.report import NoFaceError, process_photos

OUTPUTS = ("json",)


@pytest.fixture(scope="module")
def reconstructor():
    return little_reconstructor(little_model(side=17).float())


@pytest.fixture
def stages(reconstructor):
    """Two faces where the photo's name holds "two", none where it holds "none", trouble early or late."""

    def prepare(photo: Photo) -> Found:
        if "none" in photo.name:
            raise NoFaceError("no face found; give a photo with a face")
        if "early" in photo.name:
            raise cv2.error("an assertion\nand its second line")
        boxes = BOXES[: 2 if "two" in photo.name else 1]
        return Found(photo, tuple(cut_crop(photo, box) for box in boxes))

    def predict(found: list[Found]):
        if any("late" in one.photo.name for one in found):
            raise RuntimeError("the network failed")
        return reconstructor.from_crops(found)

    return Stages(prepare, predict)


NAMES = [
    "one.png",
    "two.png",
    "none.png",
    "early.png",
    "late.png",
    *(f"{k}.png" for k in range(12)),
    "last.png",
]
STATUSES = ["ok", "ok", "no face", "failed", "failed", *["ok"] * 13]


@pytest.mark.parametrize("workers", [1, 3])
def test_entries_and_folders_are_those_of_one_by_one(tmp_path, stages, workers):
    given = photos(tmp_path / "in", *NAMES)
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    given.insert(4, str(tmp_path / "in" / "text.jpg"))

    def process(photo: Photo):
        return stages.predict([stages.prepare(photo)])[0]

    expected = list(process_photos(given, process, tmp_path / "a", OUTPUTS))
    found = list(process_in_stages(given, stages, tmp_path / "b", OUTPUTS, workers))
    assert [entry.status for entry in found] == [*STATUSES[:4], "unreadable", *STATUSES[4:]]
    for a, b in zip(expected, found, strict=True):
        assert (a.photo, a.status, a.reason, a.faces, a.quality) == (
            b.photo,
            b.status,
            b.reason,
            b.faces,
            b.quality,
        )
        assert 0 < b.seconds < 60
    assert [entry["photo"] for entry in read_report(tmp_path / "b")] == given
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(
        p.name for p in (tmp_path / "b").iterdir()
    )


@needs_examples
@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_numbers_are_those_of_one_by_one_up_to_rounding(tmp_path, engine, monkeypatch):
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    reconstructor = mofaface.load(engine=engine)
    given = [str(path) for path in sorted(EXAMPLES.glob("*.jpg"))]
    entries = list(process_in_stages(given, reconstructor.stages(), tmp_path, OUTPUTS, workers=2))
    for path, entry in zip(given, entries, strict=True):
        [face] = reconstructor(path)
        plain = json.loads((tmp_path / entry.faces[0] / "code.json").read_text())
        for name, values in plain["code"].items():
            np.testing.assert_allclose(values, getattr(face.code, name).numpy(), atol=1e-3, rtol=1e-4)
        np.testing.assert_allclose(plain["landmarks_68"], face.landmarks_68, atol=1e-3)
        assert plain["photometric_error"] == pytest.approx(face.photometric_error, abs=1e-5)


def test_several_photos_go_through_the_network_together_and_few_are_under_way(tmp_path, stages):
    given = photos(tmp_path / "in", *(f"{k}.png" for k in range(30)))
    sizes, begun, under_way = [], [], []

    def prepare(photo: Photo) -> Found:
        begun.append(photo.name)
        return stages.prepare(photo)

    def predict(found):
        time.sleep(0.02)  # long enough for others to get ready
        sizes.append(len(found))
        return stages.predict(found)

    for count, _ in enumerate(
        process_in_stages(given, Stages(prepare, predict), tmp_path / "out", OUTPUTS, 2)
    ):
        under_way.append(len(begun) - count)
    assert sum(sizes) == 30 and max(sizes) > 1
    assert max(under_way) <= 2 * PHOTOS_PER_WORKER


@pytest.fixture
def interruptible():
    """Python's own answer to Ctrl-C, which a process that was started in the background lacks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_waits_for_what_is_being_written_and_reports_exactly_what_is_there(tmp_path, stages):
    given = photos(tmp_path / "in", *(f"{k}.png" for k in range(40)))

    def prepare(photo: Photo) -> Found:
        if Path(photo.name).stem == "20":
            _thread.interrupt_main()
        return stages.prepare(photo)

    with pytest.raises(KeyboardInterrupt):
        list(process_in_stages(given, Stages(prepare, stages.predict), tmp_path / "out", OUTPUTS, 2))
    entries = read_report(tmp_path / "out")
    assert 0 < len(entries) < 40 and [e["photo"] for e in entries] == given[: len(entries)]
    folders = [folder for entry in entries for folder in entry["faces"]]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([*folders, "report.json"])


def test_caller_that_stops_early_gets_a_report_of_what_is_there(tmp_path, stages):
    given = photos(tmp_path / "in", *(f"{k}.png" for k in range(40)))
    stream = process_in_stages(given, stages, tmp_path / "out", OUTPUTS, 2)
    next(stream)
    stream.close()
    entries = read_report(tmp_path / "out")
    folders = [folder for entry in entries for folder in entry["faces"]]
    assert 1 <= len(entries) < 40
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([*folders, "report.json"])


def test_libraries_get_their_threads_back_and_no_thread_stays(tmp_path, stages):
    before = torch.get_num_threads(), cv2.getNumThreads(), threading.active_count()
    list(process_in_stages(photos(tmp_path / "in", "a.png"), stages, tmp_path / "out", OUTPUTS, 3))
    assert (torch.get_num_threads(), cv2.getNumThreads(), threading.active_count()) == before


def test_fewer_than_no_worker_is_an_error(tmp_path, stages):
    with pytest.raises(ValueError, match="by one thread or more .* got -1"):
        list(process_in_stages(["a.png"], stages, tmp_path / "out", OUTPUTS, -1))
    assert not (tmp_path / "out").exists()
