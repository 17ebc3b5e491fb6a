"""Points that others marked: figures by hand, and people's files."""

from dataclasses import replace

import numpy as np
import pytest
from face_photos import EXAMPLES, example, needs_examples
from little_corpus import corpus_in_memory
from little_photo import little_reconstructor, noisy_photo
from PIL import Image

from mofaface.evaluation.on_points import evaluate_points
from mofaface.evaluation.points import (
    Found,
    PointErrors,
    _errors,
    errors_on_points,
    eye_distance,
    five_points,
    landmark_finder,
    only_in,
    person_of,
    read_points,
    summarise,
    without_offsets,
)
from mofaface.face_models.container import read_face_model

HEADER = "file,x0,y0,x1,y1,x2,y2,x3,y3,x4,y4"


@pytest.fixture(scope="module")
def reconstructor(model_path):
    return little_reconstructor(read_face_model(model_path))


def test_five_points_are_eye_centres_nose_tip_and_mouth_corners():
    landmarks = np.zeros((68, 2))
    landmarks[36:42, 0] = [0, 1, 2, 3, 4, 5]
    landmarks[42:48, 0] = 100
    landmarks[30], landmarks[48], landmarks[54] = (50, 50), (30, 80), (70, 80)
    expected = [[2.5, 0], [100, 0], [50, 50], [30, 80], [70, 80]]
    np.testing.assert_allclose(five_points(landmarks), expected)


def test_points_of_people_who_were_learnt_from_are_left_out():
    held_out = corpus_in_memory(3)
    held_out = replace(held_out, names=("Ann_Lee/Ann_Lee_0001.jpg", "Bo_Li_0002.jpg", "000001.jpg"))
    points = {name: np.zeros((5, 2)) for name in ("Ann_Lee_0001.jpg", "Ann_Lee_0002.jpg", "Cy_Fu_0001.jpg")}
    assert only_in(points, held_out).keys() == {"Ann_Lee_0001.jpg"}


def test_manual_points_are_read_by_file_name(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(f"{HEADER}\na.jpg,1,2,3,4,5,6,7,8,9,10\n\n")
    points = read_points(path)
    np.testing.assert_array_equal(points["a.jpg"], np.arange(1.0, 11).reshape(5, 2))
    np.testing.assert_array_equal(read_points(path, 0.5)["a.jpg"], points["a.jpg"] + 0.5)


def test_manual_points_of_a_spreadsheet_are_read(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes(f"\ufeff{HEADER}\r\nJosé.jpg,1,2,3,4,5,6,7,8,9,10\r\n".encode())
    assert read_points(path).keys() == {"José.jpg"}
    path.write_bytes(f"{HEADER}\nJosé.jpg,1,2,3,4,5,6,7,8,9,10\n".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        read_points(path)


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "must have the columns"),
        ("\n", "must have the columns"),
        ("name,x,y\n", "must have the columns"),
        (f"{HEADER}\na.jpg,1,2\n", "10 numbers"),
        (f"{HEADER}\na.jpg,1,2,3,4,5,6,7,8,9,ten\n", "10 numbers"),
    ],
)
def test_other_tables_are_refused_with_a_sentence(tmp_path, text, says):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_points(path)


def a_face(seed: int = 0, scale: float = 0.5, **values) -> Found:
    return Found(np.random.default_rng(seed).uniform(50, 150, (68, 2)), scale, **values)


def test_sixty_eight_points_are_read(tmp_path):
    path = tmp_path / "p.csv"
    header = ",".join(f"{axis}{i}" for i in range(68) for axis in "xy")
    path.write_text(f"file,{header}\na.jpg,{','.join(map(str, range(136)))}\n")
    points = read_points(path, 0.5)["a.jpg"]
    np.testing.assert_array_equal(points, np.arange(136.0).reshape(68, 2) + 0.5)
    path.write_text(f"file,{header}\na.jpg,1,2\n")
    with pytest.raises(ValueError, match="136 numbers"):
        read_points(path)


def test_errors_on_points_take_the_face_that_is_meant(tmp_path):
    faces = [a_face(0), a_face(1)]
    truth = five_points(faces[1].landmarks_68)
    for name in ("a.png", "b.png", "unlabelled.png"):
        Image.fromarray(noisy_photo().pixels).save(tmp_path / name)
    (tmp_path / "c.png").write_text("no picture")
    points = {"a.png": truth, "b.png": truth + (3.0, 4.0), "c.png": truth, "elsewhere.png": truth}
    found = dict(errors_on_points(lambda photos: [faces] * len(photos), points, tmp_path))
    assert found.keys() == {"a.png", "b.png", "c.png"} and found["c.png"] is None
    assert found["a.png"].error == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(found["b.png"].relative, 5 / np.linalg.norm(truth[1] - truth[0]))
    np.testing.assert_allclose(found["b.png"].pixels, 10)  # 5 photo pixels are 10 of the crop's


def test_a_name_that_several_rows_or_photos_have_is_left_out(tmp_path, caplog):
    path, row = tmp_path / "p.csv", "1,2,3,4,5,6,7,8,9,10"
    path.write_text(f"{HEADER}\na.png,{row}\nb.png,{row}\na.png,{row}\n")
    points = read_points(path)
    assert points.keys() == {"b.png"} and "several rows of p.csv share are left out: 1" in caplog.text
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        for name in ("b.png", f"{folder}.png"):
            Image.fromarray(noisy_photo().pixels).save(tmp_path / folder / name)
    points |= {"one.png": points["b.png"]}
    found = dict(errors_on_points(lambda photos: [[]] * len(photos), points, tmp_path))
    assert found.keys() == {"one.png"} and "several photos" in caplog.text


def test_photo_without_a_face_counts_as_none(tmp_path):
    Image.fromarray(noisy_photo().pixels).save(tmp_path / "a.png")
    found = dict(errors_on_points(lambda photos: [[]], {"a.png": np.ones((5, 2))}, tmp_path))
    assert found == {"a.png": None}


def test_sixty_eight_points_are_judged_by_the_inner_ones_over_the_outer_eye_corners():
    truth = a_face().landmarks_68
    truth[36], truth[45] = (0, 0), (60, 80)
    offset = np.zeros((68, 2))
    offset[:17] = (0, 30)  # the jaw
    offset[17:] = (4, 3)
    assert eye_distance(truth) == 100
    figures, rest = summarise({"Ann_Lee_01.jpg": PointErrors(offset, 100.0, 2.0), "none.jpg": None})
    assert figures["inner_51"].mean == pytest.approx(0.05) and figures["inner_51_px"].mean == pytest.approx(
        2.5
    )
    assert figures["all_68"].mean == pytest.approx((17 * 0.3 + 51 * 0.05) / 68)
    assert figures["loss_46"].mean == pytest.approx(0.05)
    assert rest["each"]["jaw"] == pytest.approx(0.3) and rest["no_face"] == 1
    np.testing.assert_allclose(rest["mean_offset"], [51 * 0.04 / 68, (17 * 0.3 + 51 * 0.03) / 68])


def test_frames_of_one_person_are_drawn_together():
    assert person_of("videos/Ann_Lee_01.jpg") == person_of("Ann_Lee_0001.jpg") == "Ann_Lee"
    errors = PointErrors(np.ones((5, 2)), 10.0, 1.0)
    figures, _ = summarise({"Ann_Lee_01.jpg": errors, "Ann_Lee_02.jpg": errors, "Bo_01.jpg": errors})
    assert (figures["five_points"].count, figures["five_points"].people) == (3, 2)


def test_the_detectors_own_error_stands_beside():
    face = a_face(detector_68=a_face().landmarks_68 + (0.0, 2.0))
    truth = five_points(face.landmarks_68) - (0.0, 1.0)
    figures, _ = summarise(
        {
            "a.jpg": PointErrors(
                np.tile([0.0, 1.0], (5, 1)), eye_distance(truth), 1.0, np.tile([0.0, 3.0], (5, 1))
            )
        }
    )
    assert figures["detector"].mean == pytest.approx(3 * figures["five_points"].mean)


@needs_examples
def test_landmarks_of_several_photos_are_those_of_the_reconstructor(reconstructor):
    photos = [example(), noisy_photo(), example("ai_man_1.jpg")]
    found = landmark_finder(reconstructor, detector_too=True)(photos)
    assert [len(faces) for faces in found] == [1, 0, 1]
    for photo, faces in zip((photos[0], photos[2]), (found[0], found[2]), strict=True):
        (own,) = reconstructor(photo)
        np.testing.assert_allclose(faces[0].landmarks_68, own.landmarks_68, atol=0.01)
        assert faces[0].scale == own.crop.photo_from_crop.scale
        # The detector sees the real face: it lies in the box of the crop.
        inside = own.crop.photo_from_crop.inverse().apply(faces[0].detector_68)
        assert inside.min() > 0 and inside.max() < 240


@needs_examples
def test_points_are_evaluated_and_drawn(reconstructor, tmp_path):
    own = {
        f"{name}.jpg": five_points(reconstructor(example(f"{name}.jpg"))[0].landmarks_68) + (0.0, 3.0)
        for name in ("congress_C001072", "ai_man_1")
    }
    result = evaluate_points(reconstructor, own, EXAMPLES)
    expected = np.mean([3 / eye_distance(truth) for truth in own.values()])
    assert result.figures["five_points"]["mean"] == pytest.approx(expected, rel=1e-2)
    assert "3DDFA_V2: 5.6" in result.text()
    pytest.importorskip("matplotlib")
    names = {path.name for path in result.write_report(tmp_path / "report")}
    assert {"cases_points.png", "curve_five_points.png", "photographs.csv"} <= names


def test_points_and_images_that_do_not_belong_together_are_a_sentence():
    with pytest.raises(ValueError, match="belong together"):
        summarise({"a.jpg": None})


def test_constant_offsets_are_learned_from_other_people_and_turn_with_the_face():
    random = np.random.default_rng(0)
    constant, noise = random.normal(size=(5, 2)), 0.01 * random.normal(size=(40, 5, 2))
    people = [f"person_{i // 2}" for i in range(40)]
    found = {}
    for i, person in enumerate(people):
        tilt, distance = random.uniform(-1, 1), random.uniform(20, 90)
        turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
        offset = distance * (constant + noise[i]) @ turn.T
        found[f"{person}_{i:04}.jpg"] = PointErrors(offset, distance, 1.0, tilt=tilt)
    figures, _ = summarise(found)
    assert figures["five_points"].mean > 0.5
    assert figures["without_offsets"].mean == pytest.approx(np.linalg.norm(noise, axis=2).mean(), rel=0.1)


def test_what_one_person_alone_has_is_not_removed():
    offsets = np.zeros((4, 5, 2))
    offsets[2:] = 1
    left = without_offsets(offsets, ["ann", "bob", "eve", "eve"])
    np.testing.assert_allclose(left[2:], 1)
    np.testing.assert_allclose(left[0], -2 / 3)


def test_the_tilt_is_that_of_the_eyes():
    five = np.array([[10.0, 10], [20, 20], [15, 25], [12, 30], [18, 30]])
    outline = np.zeros((68, 2))
    outline[36], outline[45] = (10, 20), (20, 10)
    for truth, tilt in ((five, np.pi / 4), (outline, -np.pi / 4)):
        assert _errors(Found(np.zeros((68, 2)), 1.0), truth).tilt == pytest.approx(tilt)
