"""The landmark network finds the same face wherever it is, and doubts what is none."""

import cv2
import numpy as np
import pytest
from face_photos import EXAMPLES, example, needs_examples, noise_photo

from mofaface.crop import Box, cut_crop
from mofaface.detection import detect_faces
from mofaface.facemesh import MESH_OF_68, FaceMesh, find_mesh, presence_confidence, square_of_points
from mofaface.landmarks import MIRROR_68
from mofaface.photo import Photo

pytestmark = needs_examples


def mesh_of(photo: Photo) -> FaceMesh:
    return find_mesh(photo, detect_faces(photo).faces[0])


def eye_distance(landmarks: np.ndarray) -> float:
    return float(np.linalg.norm(landmarks[45] - landmarks[36]))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.jpg")), ids=lambda path: path.stem)
def test_each_example_is_a_sure_face_with_landmarks_in_their_order(path):
    mesh = mesh_of(example(path.name))
    points = mesh.landmarks_68
    assert mesh.presence > 10 and mesh.disagreement < 0.03
    assert (np.diff(points[[36, 39, 42, 45], 0]) > 0).all()
    assert points[19, 1] < points[37, 1] < points[30, 1] < points[51, 1] < points[57, 1] < points[8, 1]
    assert mesh.confidence_68[17:].mean() > 0.6


def test_the_crop_is_centred_on_the_examples_faces():
    middles, widths = [], []
    for path in sorted(EXAMPLES.glob("*.jpg")):
        photo = example(path.name)
        crop = cut_crop(photo, detect_faces(photo).faces[0])
        points = crop.photo_from_crop.inverse().apply(mesh_of(photo).landmarks_68)
        middles.append([points[27, 0], (points[17:27, 1].mean() + points[8, 1]) / 2])
        widths.append(eye_distance(points))
    assert np.abs(np.mean(middles, axis=0) - 120).max() < 8
    assert 80 < np.mean(widths) < 100


def test_detector_points_and_landmarks_agree():
    photo = example()
    box = detect_faces(photo).faces[0]
    points = find_mesh(photo, box).landmarks_68
    five = np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
    assert np.linalg.norm(five - box.points, axis=1).max() < 0.1 * eye_distance(points)


def test_a_scaled_and_moved_photo_moves_its_landmarks():
    pixels = example().pixels
    before = mesh_of(Photo(pixels)).landmarks_68
    larger = cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    after = mesh_of(Photo(np.pad(larger, ((30, 0), (70, 0), (0, 0)), mode="edge"))).landmarks_68
    assert np.abs((after - [70, 30]) / 2 - before).mean() < 0.015 * eye_distance(before)


def test_a_mirrored_photo_mirrors_its_landmarks_and_its_yaw():
    pixels = example("congress_C000127.jpg").pixels
    straight, mirrored = mesh_of(Photo(pixels)), mesh_of(Photo(np.ascontiguousarray(pixels[:, ::-1])))
    back = (mirrored.landmarks_68 * [-1, 1] + [pixels.shape[1], 0])[list(MIRROR_68)]
    off = np.linalg.norm(back - straight.landmarks_68, axis=1) / eye_distance(back)
    assert off.mean() < 0.03
    assert mirrored.yaw == pytest.approx(-straight.yaw, abs=0.08)


def test_a_turned_photo_turns_its_landmarks():
    pixels = example().pixels
    height, width = pixels.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 25, 1.0)
    turned = cv2.warpAffine(pixels, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    before = mesh_of(Photo(pixels)).landmarks_68
    expected = before @ turn[:, :2].T + turn[:, 2]
    off = np.linalg.norm(mesh_of(Photo(turned)).landmarks_68 - expected, axis=1) / eye_distance(before)
    assert off.mean() < 0.025


def test_a_bare_box_gives_nearly_the_same_points():
    photo = example()
    box = detect_faces(photo).faces[0]
    bare = find_mesh(photo, Box(box.x, box.y, box.width, box.height))
    off = np.linalg.norm(bare.landmarks_68 - find_mesh(photo, box).landmarks_68, axis=1)
    assert off.mean() < 0.02 * eye_distance(bare.landmarks_68)


def test_noise_has_low_presence_and_hence_no_confidence():
    mesh = find_mesh(noise_photo(), Box(80, 40, 120, 120))
    assert mesh.presence < 0
    assert mesh.confidence_68.max() < 0.4


def test_points_that_look_away_are_doubted():
    from mofaface.facemesh import towards_camera

    mesh = mesh_of(example())
    turn = np.radians(55)
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    middle = mesh.points.mean(0)
    visible = towards_camera((mesh.points - middle) @ rotation.T + middle)
    sides = visible[[MESH_OF_68[36][0], MESH_OF_68[45][0]]]
    assert sides.min() < 0.3 < 0.9 < sides.max()


def test_presence_confidence_rises_from_zero_to_one():
    assert presence_confidence(-3.0) < 0.1 < 0.9 < presence_confidence(10.0)


def test_the_second_square_is_upright_around_all_points():
    points = mesh_of(example()).points
    inside = square_of_points(points).inverse().apply(points[:468, :2])
    assert inside.min() > 0 and inside.max() < 256
    assert inside[263, 1] == pytest.approx(inside[33, 1], abs=1e-6)


def test_every_landmark_has_mesh_points_and_the_table_is_symmetric_in_number():
    assert len(MESH_OF_68) == 68
    assert all(len(MESH_OF_68[j]) == len(MESH_OF_68[MIRROR_68[j]]) for j in range(68))
