"""Many photos: one folder per face, one entry per photo, and nothing that stops the batch."""

import json
import re

import cv2
import numpy as np
import pytest
from little_face import little_model
from little_photo import BOXES, little_reconstructor

from mofaface import report
from mofaface.photo import Photo
from mofaface.report import Entry, NoFaceError, exit_code, folder_names, process_photos, write_report

OUTPUTS = ("json",)


@pytest.fixture(scope="module")
def reconstructor():
    return little_reconstructor(little_model(side=17).float())


@pytest.fixture
def process(reconstructor):
    """Two faces where the photo's name holds "two", none where it holds "none", an exception at "trouble"."""

    def process(photo: Photo):
        if "none" in photo.name:
            raise NoFaceError("no face found; give a photo with a face")
        if "trouble" in photo.name:
            raise cv2.error("an assertion\nand its second line")
        return reconstructor.from_boxes(photo, BOXES[: 2 if "two" in photo.name else 1])

    return process


def photos(folder, *names):
    folder.mkdir(exist_ok=True)
    grey = np.full((480, 640, 3), 120, np.uint8)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), grey)
    return [str(folder / name) for name in names]


def read_report(out):
    plain = json.loads((out / "report.json").read_text())
    assert plain["format"] == "mofaface-report" and plain["format_version"] == "1"
    return plain["photos"]


def test_every_photo_has_its_entry_and_every_face_its_folder(tmp_path, process):
    given = photos(tmp_path / "in", "one.png", "two.png", "none.png", "trouble.png", "last.png")
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    given.insert(4, str(tmp_path / "in" / "text.jpg"))
    out = tmp_path / "out"
    entries = list(process_photos(given, process, out, OUTPUTS))
    assert [entry.status for entry in entries] == ["ok", "ok", "no face", "failed", "unreadable", "ok"]
    assert [entry.faces for entry in entries] == [["one"], ["two", "two_2"], [], [], [], ["last"]]
    assert sorted(path.name for path in out.iterdir()) == ["last", "one", "report.json", "two", "two_2"]
    written = read_report(out)
    assert [entry["photo"] for entry in written] == given
    for entry, plain in zip(entries, written, strict=True):
        assert plain["status"] == entry.status and plain["reason"] == entry.reason and plain["seconds"] >= 0
        assert len(plain["quality"]) == len(plain["faces"]) and "\n" not in plain["reason"]
        assert plain["reason"] or plain["status"] == "ok"
    assert "error: an assertion" in entries[3].reason


def test_photos_of_one_stem_get_folders_of_their_own():
    names = folder_names(["a/face.jpg", "b/face.jpg", "face.png", "c/face.png", "Face.jpg", "other.jpg"])
    assert names == ["face", "face.jpg", "face.png", "face.2", "Face.3", "other"]
    assert len({name.lower() for name in names}) == len(names)


def test_no_folder_takes_the_name_of_the_report():
    assert folder_names(["report.json.png"]) == ["report.json.png"]


def test_names_of_dots_become_folders_below_the_results():
    assert folder_names(["...jpg", "..", "a/. .png", ".hidden.jpg"]) == [
        "photo",
        "photo.2",
        "photo.png",
        "hidden",
    ]


def test_folder_that_is_not_ours_fails_one_photo_and_is_kept(tmp_path, process):
    given = photos(tmp_path / "in", "a.png", "b.png")
    own = tmp_path / "out" / "a" / "holiday.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    entries = list(process_photos(given, process, tmp_path / "out", OUTPUTS))
    assert [entry.status for entry in entries] == ["failed", "ok"] and own.read_text() == "mine"
    assert entries[0].reason == f"{own.parent} holds other files; give another --out"


def test_second_face_does_not_take_the_folder_of_a_photo_called_so(tmp_path, process):
    given = photos(tmp_path / "in", "two.png", "two_2.png")
    entries = list(process_photos(given, process, tmp_path / "out", OUTPUTS))
    folders = [folder for entry in entries for folder in entry.faces]
    assert folders == ["two", "two_face_2", "two_2", "two_2_2"]


def test_note_of_the_photo_stands_in_the_report(tmp_path, process):
    from PIL import Image

    frames = [Image.new("RGB", (64, 64), (value, value, value)) for value in (50, 90)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (entry,) = process_photos([str(tmp_path / "moving.gif")], process, tmp_path / "out", OUTPUTS)
    assert entry.status == "ok" and "first of 2 frames" in entry.reason


@pytest.mark.parametrize(
    "statuses, code",
    [
        (["ok", "ok"], 0),
        (["ok", "no face"], 2),
        (["unreadable", "ok", "failed"], 2),
        (["no face"], 1),
        (["failed", "unreadable"], 1),
        ([], 1),
    ],
)
def test_exit_code_tells_all_some_or_none(statuses, code):
    assert exit_code([Entry("p", status) for status in statuses]) == code


def test_interrupt_keeps_what_is_done_and_writes_the_report(tmp_path, process):
    given = photos(tmp_path / "in", "a.png", "b.png", "c.png")

    def interrupted(photo: Photo):
        if "b.png" in photo.name:
            raise KeyboardInterrupt
        return process(photo)

    with pytest.raises(KeyboardInterrupt):
        list(process_photos(given, interrupted, tmp_path / "out", OUTPUTS))
    assert [entry["photo"] for entry in read_report(tmp_path / "out")] == given[:1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "report.json"]


def test_caller_that_stops_early_still_gets_the_report(tmp_path, process):
    given = photos(tmp_path / "in", "a.png", "b.png")
    stream = process_photos(given, process, tmp_path / "out", OUTPUTS)
    next(stream)
    stream.close()
    assert len(read_report(tmp_path / "out")) == 1


def test_full_disk_at_one_photo_is_one_clear_line_and_the_batch_goes_on(tmp_path, process, monkeypatch):
    given = photos(tmp_path / "in", "a.png", "b.png", "c.png")
    save = report.Reconstruction.save

    def full(self, out, name, outputs):
        if name == "b":
            raise OSError(28, "No space left on device")
        return save(self, out, name, outputs)

    monkeypatch.setattr(report.Reconstruction, "save", full)
    entries = list(process_photos(given, process, tmp_path / "out", OUTPUTS))
    assert [entry.status for entry in entries] == ["ok", "failed", "ok"]
    assert re.search("disk of .* is full; free some space", entries[1].reason)


def test_report_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "report.json"
    write_report(path, [Entry("p", "ok")])
    before = path.read_text()
    (tmp_path / ".report.json.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="report.json could not be written .*check its folder and the space"):
        write_report(path, [])
    assert path.read_text() == before and [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_results_do_not_go_where_a_file_lies(tmp_path, process):
    (tmp_path / "out").write_text("a file")
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(ValueError, match="results go into a folder.*give another --out"):
            list(process_photos([], process, out, OUTPUTS))
