"""Evaluation: figures by hand, and people's files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from little_corpus import corpus_in_memory
from little_photo import BOXES, little_reconstructor, noisy_photo
from mofaface.evaluate import (
    errors_on_corpus,
    errors_on_points,
    figure,
    five_points,
    only_held_out,
    read_points,
)
from PIL import Image

from mofaface.face_models.container import read_face_model
from mofaface.photo import Photo
from mofaface.training.validation import validate

HEADER = "file,x0,y0,x1,y1,x2,y2,x3,y3,x4,y4"


@pytest.fixture(scope="module")
def reconstructor(model_path):
    return little_reconstructor(read_face_model(model_path))


def test_figure_is_the_mean_with_its_interval():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    result = figure(values)
    assert result.mean == pytest.approx(values.mean()) and result.count == 400
    error = values.std() / 20
    assert result.low == pytest.approx(values.mean() - 1.96 * error, abs=0.05)
    assert result.high == pytest.approx(values.mean() + 1.96 * error, abs=0.05)
    assert str(figure(np.ones(3))) == "1 [1, 1] (n = 3)"


def test_errors_on_a_corpus_have_the_means_of_the_validation(reconstructor):
    corpus = corpus_in_memory(20)  # more than one batch, and no multiple of it
    errors = errors_on_corpus(reconstructor.autoencoder, corpus)
    means = validate(reconstructor.autoencoder, corpus, 20)
    for name, values in errors.items():
        assert values.shape == (20,) and values.mean() == pytest.approx(means[name], rel=1e-5)


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
    assert only_held_out(points, held_out).keys() == {"Ann_Lee_0001.jpg"}


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
        (f"{HEADER}\na.jpg,1,2\n", "ten numbers"),
        (f"{HEADER}\na.jpg,1,2,3,4,5,6,7,8,9,ten\n", "ten numbers"),
    ],
)
def test_other_tables_are_refused_with_a_sentence(tmp_path, text, says):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_points(path)


def test_errors_on_points_take_the_face_that_is_meant(reconstructor, tmp_path):
    faces = reconstructor.from_boxes(noisy_photo(), BOXES)
    truth = five_points(faces[1].landmarks_68)
    for name in ("a.png", "b.png", "unlabelled.png"):
        Image.fromarray(noisy_photo().pixels).save(tmp_path / name)
    (tmp_path / "c.png").write_text("no picture")
    points = {"a.png": truth, "b.png": truth + (3.0, 4.0), "c.png": truth, "elsewhere.png": truth}

    def reconstruct(photo: Photo):
        return faces

    found = dict(errors_on_points(reconstruct, points, tmp_path))
    assert found.keys() == {"a.png", "b.png", "c.png"} and found["c.png"] is None
    np.testing.assert_allclose(found["a.png"], 0, atol=1e-9)
    eye_distance = np.linalg.norm(truth[1] - truth[0])
    np.testing.assert_allclose(np.linalg.norm(found["b.png"], axis=1), 5 / eye_distance)


def test_photo_without_a_face_counts_as_none(tmp_path):
    Image.fromarray(noisy_photo().pixels).save(tmp_path / "a.png")
    found = dict(errors_on_points(lambda photo: [], {"a.png": np.ones((5, 2))}, tmp_path))
    assert found == {"a.png": None}


def test_evaluation_keeps_no_gradients(reconstructor):
    errors = errors_on_corpus(reconstructor.autoencoder, corpus_in_memory(2))
    assert all(isinstance(values, np.ndarray) for values in errors.values())
    assert torch.is_grad_enabled()
