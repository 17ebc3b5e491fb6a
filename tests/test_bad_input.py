"""Whatever people give as a photo: a face or one clear line; the batch goes on, nothing partial is left."""

import io
import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from face_photos import EXAMPLES, needs_examples
from PIL import Image

from mofaface.cli import main

pytestmark = needs_examples
GOOD = "congress_C001072.jpg"


def face() -> Image.Image:
    return Image.open(io.BytesIO((EXAMPLES / GOOD).read_bytes())).convert("RGB")


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png16(picture: Image.Image) -> bytes:
    grey = np.asarray(picture.convert("L"), np.uint16) * 257
    return cv2.imencode(".png", grey)[1].tobytes()


def animated() -> bytes:
    return saved(face(), "GIF", save_all=True, append_images=[face().rotate(90)])


def huge() -> bytes:
    return saved(Image.new("1", (20_000, 20_000)), "PNG")


def heic() -> bytes:
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 500


def corrupt() -> bytes:
    jpeg = bytearray((EXAMPLES / GOOD).read_bytes())
    jpeg[200:400] = b"\xff" * 200
    return bytes(jpeg)


def placed(width: int, height: int, size: float, x: int, y: int) -> bytes:
    """The face photo, scaled, on grey, with its corner at (x, y)."""
    picture = face()
    picture = picture.resize([max(1, round(side * size)) for side in picture.size], Image.Resampling.LANCZOS)
    ground = Image.new("RGB", (width, height), (128, 128, 128))
    ground.paste(picture, (x, y))
    return saved(ground, "PNG")


def with_alpha() -> bytes:
    picture = face()
    picture.putalpha(Image.linear_gradient("L").resize(picture.size).point(lambda v: 128 + v // 2))
    return saved(picture, "PNG")


def rotated_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show it upright
    return saved(face().rotate(90, expand=True), "JPEG", exif=exif)


def jpeg_start(count: int | None = None) -> bytes:
    return (EXAMPLES / GOOD).read_bytes()[:count]


FACES = {
    "grey.jpg": lambda: saved(face().convert("L"), "JPEG"),
    "sixteen.png": lambda: png16(face()),
    "cmyk.jpg": lambda: saved(face().convert("CMYK"), "JPEG"),
    "palette.png": lambda: saved(face().quantize(64), "PNG"),
    "alpha.png": with_alpha,
    "animated.gif": animated,
    "really_a_jpeg.png": lambda: jpeg_start(),
    "no_suffix": lambda: jpeg_start(),
    "turned.jpg": rotated_by_exif,
    "webp.webp": lambda: saved(face(), "WEBP"),
    "tiff.tif": lambda: saved(face(), "TIFF"),
    "small.png": lambda: placed(300, 200, 0.35, 100, 30),
}
NO_FACES = {
    "empty.jpg": (lambda: b"", "unreadable", "is empty"),
    "truncated.jpg": (lambda: jpeg_start(9000), "unreadable", "truncated or damaged"),
    "corrupt.jpg": (corrupt, "unreadable", "damaged|known format"),
    "tiny.png": (lambda: saved(Image.new("RGB", (1, 1)), "PNG"), "unreadable", "1×1 pixels are too few"),
    "huge.png": (huge, "unreadable", "more than .* million"),
    "photo.heic": (heic, "unreadable", "HEIC photo, for which no reader|truncated or damaged"),
    "text.jpg": (lambda: b"this is no picture" * 20, "unreadable", "not an image in a known format"),
    "wall.png": (
        lambda: saved(Image.new("RGB", (300, 200), (120, 90, 60)), "PNG"),
        "no face",
        "no face found",
    ),
    "crowd.png": (lambda: placed(900, 700, 0.06, 400, 300), "no face", "no face found|pixels wide; at least"),
}
# Either is an honest answer.
EITHER = {
    "border_left.png": lambda: placed(400, 400, 1.0, -110, 60),
    "border_low.png": lambda: placed(400, 300, 1.0, 80, 120),
    "profile.png": lambda: saved(face().resize((70, 300)), "PNG"),
    "upside_down.png": lambda: saved(face().rotate(180), "PNG"),
}


@pytest.fixture(scope="module")
def run(weights_path, model_path):
    def run(out: Path, *photos: Path) -> tuple[int, list[dict]]:
        options = ["--weights", weights_path, "--model", model_path, "--save", "json,overlay", "--out", out]
        with pytest.raises(SystemExit) as caught:
            main(["reconstruct", *map(str, photos), *map(str, options)])
        return caught.value.code, json.loads((out / "report.json").read_text())["photos"]

    return run


@pytest.fixture(scope="module")
def batch(tmp_path_factory, run):
    """All of it in one batch: exit code, the folder of results, and the entries of the report by name."""
    folder = tmp_path_factory.mktemp("photos")
    for name, make in (FACES | EITHER | {name: case[0] for name, case in NO_FACES.items()}).items():
        (folder / name).write_bytes(make())
    (folder / "directory.jpg").mkdir()
    photos = [*sorted(folder.iterdir()), folder / "missing.jpg", EXAMPLES / GOOD]
    out = folder / "out"
    code, entries = run(out, *photos)
    assert [entry["photo"] for entry in entries] == [str(photo) for photo in photos]
    return code, out, {Path(entry["photo"]).name: entry for entry in entries}


def test_batch_with_all_of_it_ends_with_two_and_reaches_the_last_photo(batch):
    code, out, entries = batch
    assert code == 2 and entries[GOOD]["status"] == "ok"
    folders = [folder for entry in entries.values() for folder in entry["faces"]]
    assert sorted(path.name for path in out.iterdir()) == sorted([*folders, "report.json"])
    for folder in folders:
        assert sorted(path.name for path in (out / folder).iterdir()) == ["code.json", "overlay.png"]


@pytest.mark.parametrize("name", FACES)
def test_unusual_photo_gives_a_face(batch, name):
    entry = batch[2][name]
    assert entry["status"] == "ok" and len(entry["faces"]) == 1


@pytest.mark.parametrize("name", NO_FACES)
def test_useless_photo_gives_one_clear_line(batch, name):
    _, status, reason = NO_FACES[name]
    entry = batch[2][name]
    assert entry["status"] == status
    assert len(entry["reason"].splitlines()) == 1
    assert re.search(reason, entry["reason"]), entry["reason"]


@pytest.mark.parametrize("name", ["directory.jpg", "missing.jpg"])
def test_what_is_no_file_gives_one_clear_line(batch, name):
    entry = batch[2][name]
    assert entry["status"] == "unreadable"
    assert ("is a directory" if name.startswith("d") else "does not exist") in entry["reason"]


@pytest.mark.parametrize("name", EITHER)
def test_doubtful_photo_gives_a_face_or_one_clear_line(batch, name):
    entry = batch[2][name]
    assert entry["status"] == "ok" or (
        entry["status"] == "no face" and len(entry["reason"].splitlines()) == 1
    )


def test_note_says_what_was_done_to_an_animation(batch):
    assert "first of 2 frames" in batch[2]["animated.gif"]["reason"]


def test_turned_photo_gives_the_landmarks_of_the_upright_one(batch):
    _, out, _ = batch
    upright, turned = (
        json.loads((out / name / "code.json").read_text()) for name in (Path(GOOD).stem, "turned")
    )
    assert upright["camera"]["photo"]["size"] == turned["camera"]["photo"]["size"]
    np.testing.assert_allclose(upright["landmarks_68"], turned["landmarks_68"], atol=6)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_photo_that_may_not_be_read_gives_one_clear_line(tmp_path, run):
    photo = tmp_path / "mine.jpg"
    photo.write_bytes(jpeg_start())
    photo.chmod(0)
    code, (entry,) = run(tmp_path / "out", photo)
    assert code == 1 and entry["status"] == "unreadable" and "may not be read" in entry["reason"]
