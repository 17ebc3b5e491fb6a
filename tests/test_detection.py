"""Faces are found at any size and place; what is not used has a reason."""

import cv2
import numpy as np
import pytest
from face_photos import EXAMPLES, example, needs_examples, noise_photo

from mofaface.crop import CROP_SIZE, crop_square
from mofaface.detection import detect_faces
from mofaface.photo import Photo

pytestmark = needs_examples


def on_grey(pixels: np.ndarray, height: int, width: int, x: int, y: int) -> Photo:
    canvas = np.full((height, width, 3), 128, np.uint8)
    canvas[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return Photo(canvas)


def shrunk(pixels: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.jpg")), ids=lambda path: path.stem)
def test_each_example_shows_one_face_with_points_inside_its_box(path):
    faces = detect_faces(example(path.name)).faces
    assert len(faces) == 1 and faces[0].score > 0.8
    inside = faces[0].points - [faces[0].x, faces[0].y]
    assert (inside > 0).all() and (inside < [faces[0].width, faces[0].height]).all()
    assert faces[0].points[0, 0] < faces[0].points[1, 0]  # the subject's right eye is on the picture's left


def test_both_detectors_lead_to_about_the_same_crop():
    photo = example()
    yunet, haar = (crop_square(detect_faces(photo, name).faces[0]) for name in ("yunet", "haar"))
    assert np.abs(np.array(yunet) - haar).max() < 0.15 * yunet[2]
    assert detect_faces(photo, "haar").faces[0].points is None


def test_the_crop_moves_and_grows_with_the_face():
    pixels = example().pixels
    reference = np.array(crop_square(detect_faces(Photo(pixels)).faces[0]))
    moved = detect_faces(on_grey(shrunk(pixels, 0.5), 900, 1200, 600, 300)).faces[0]
    expected = reference / 2 + [600, 300, 0]
    assert np.abs(np.array(crop_square(moved)) - expected).max() < 0.08 * expected[2]


def test_faces_come_largest_first():
    pixels = example().pixels
    canvas = on_grey(pixels, 560, 800, 5, 5).pixels
    small = shrunk(pixels, 0.45)
    canvas[20 : 20 + small.shape[0], 500 : 500 + small.shape[1]] = small
    sizes = [face.size for face in detect_faces(Photo(canvas)).faces]
    assert len(sizes) == 2 and sizes[0] > 1.8 * sizes[1]


def test_a_face_that_fills_the_frame_is_found():
    photo = example()
    x, y, side = crop_square(detect_faces(photo).faces[0])
    half = 0.27 * side
    tight = photo.pixels[int(y - half) : int(y + half), int(x - half) : int(x + half)]
    assert len(detect_faces(Photo(np.ascontiguousarray(tight))).faces) == 1


def test_a_small_face_in_a_large_photo_is_found():
    photo = on_grey(shrunk(example().pixels, 0.14), 1000, 1600, 900, 400)
    face = detect_faces(photo).faces[0]
    assert 900 < face.x < 960 and 400 < face.y < 480


def test_a_tiny_face_is_left_out_with_its_size_as_the_reason():
    detection = detect_faces(on_grey(shrunk(example().pixels, 0.05), 200, 200, 90, 90))
    assert not detection.faces and "at least 20" in detection.reason


def test_no_face_has_a_reason():
    assert "no face" in detect_faces(noise_photo()).reason
    assert detect_faces(example()).reason == ""


def test_odd_shapes_are_no_trouble():
    for shape in ((16, 4000), (3000, 17), (16, 16)):
        assert not detect_faces(noise_photo(*shape)).faces


def test_the_crop_has_room_for_the_average_face():
    photo = example()
    box = detect_faces(photo).faces[0]
    _, _, side = crop_square(box)
    eye_distance = np.linalg.norm(box.points[1] - box.points[0]) * CROP_SIZE / side
    assert 50 < eye_distance < 72  # eye centres: about 62 mm apart
