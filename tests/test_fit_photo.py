"""Fitting a photo: what a person sees of it, from the file to the report."""

import json

import numpy as np
import pytest
import torch
from face_photos import EXAMPLES, example, needs_examples, noise_photo
from little_corpus import rendered_faces
from little_face import little_model

from mofaface.cli import main
from mofaface.crop import Box, crop_square
from mofaface.detection import Detection
from mofaface.face_models.container import read_face_model
from mofaface.fit import Fit, FitConfig, Stage
from mofaface.fit_photo import PhotoFitter, ending
from mofaface.photo import Photo
from mofaface.report import NoFaceError

SHORT = FitConfig(stages=(Stage(iterations=4),))


@pytest.fixture(scope="module")
def model(model_path):
    return read_face_model(model_path)


def test_photo_without_a_face_is_refused_with_the_reason(model):
    with pytest.raises(NoFaceError, match="no face found"):
        PhotoFitter(model)(noise_photo())


@needs_examples
@pytest.mark.parametrize("landmarks", [True, False])
def test_fit_of_a_real_photo_is_a_reconstruction_that_says_how_it_ended(model, landmarks, tmp_path):
    photo = example()
    (face,) = PhotoFitter(model, landmarks, config=SHORT)(photo)
    assert face.weights == "fit" and "iterations" in face.note and 0 <= face.quality <= 1
    seen = face.camera_photo.project(torch.from_numpy(face.vertices).double()).numpy()
    np.testing.assert_allclose(seen[model.landmarks_68.numpy()], face.landmarks_68, atol=5e-3)
    height, width = photo.pixels.shape[:2]
    assert ((face.landmarks_68 > 0) & (face.landmarks_68 < (width, height))).all()
    assert json.loads((face.save(tmp_path) / "code.json").read_text())["note"] == face.note


def test_rendered_face_is_fitted_better_than_the_average_one(monkeypatch):
    model = little_model(side=17).float()
    (picture,), _ = rendered_faces(1, seed=4)
    box = Box(0.0, 0.0, 240.0, 240.0)
    # A box whose crop is the whole picture.
    centre_x, centre_y, side = crop_square(box)
    size = 240 * 240 / side
    box = Box(120 - size / 2, 120 - size / 2 - (centre_y - 120) * size / 240, size, size)
    np.testing.assert_allclose(crop_square(box), (120, 120, 240), atol=1e-6)
    monkeypatch.setattr("mofaface.fit_photo.detect_faces", lambda photo, detector: Detection((box,)))
    fits = [
        PhotoFitter(
            model, False, config=FitConfig(stages=tuple(Stage(blur=blur, iterations=n) for blur, n in stages))
        )
        for stages in ([(0.0, 1)], [(8.0, 10), (2.0, 10), (0.0, 10)])
    ]
    short, long = (fitter(Photo(picture))[0] for fitter in fits)
    assert long.photometric_error < 0.5 * short.photometric_error


def test_ending_tells_convergence_from_its_absence(model):
    code = model.layout.zero()
    assert ending(Fit(code, 1.0, 2.0, 34, True, "r")) == "converged after 34 iterations"
    assert ending(Fit(code, 1.0, 2.0, 9, False, "r")) == "did not converge in 9 iterations: r"


@needs_examples
def test_command_writes_results_and_report(model_path, tmp_path, monkeypatch):
    monkeypatch.setattr("mofaface.fit_photo.FitConfig", lambda: SHORT)
    photo = str(EXAMPLES / "congress_C001072.jpg")
    with pytest.raises(SystemExit) as caught:
        main(
            [
                "fit",
                photo,
                "gone.jpg",
                "--model",
                str(model_path),
                "--out",
                str(tmp_path),
                "--no-landmarks",
                "--save",
                "json",
            ]
        )
    assert caught.value.code == 2
    first, second = json.loads((tmp_path / "report.json").read_text())["photos"]
    assert first["status"] == "ok" and "iterations" in first["reason"] and second["status"] == "unreadable"
