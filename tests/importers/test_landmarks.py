"""Landmarks from lists, and from a picture of the average face."""

import json

import numpy as np
import pytest

from importers.foreign_head import open_model
from mofaface.face_models.importers.landmarks import find_landmarks, read_landmarks
from mofaface.face_models.importers.raw import ModelFileError


def test_lists_of_every_kind_are_read(tmp_path):
    want = np.arange(68) * 3
    (tmp_path / "a.txt").write_text("\n".join(map(str, want)))
    (tmp_path / "b.json").write_text(json.dumps((want + 1).tolist()))
    np.save(tmp_path / "c.npy", want)
    assert read_landmarks(tmp_path / "a.txt", 202).tolist() == want.tolist()
    assert read_landmarks(tmp_path / "b.json", 202, first=1).tolist() == want.tolist()
    assert read_landmarks(tmp_path / "c.npy", 202).tolist() == want.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" ".join(map(str, range(67))), "68 vertex numbers.* has 67"),
        (" ".join(map(str, range(1, 69))), "lie between 0 and 67, .* has 1 to 68; check whether they count"),
        ("a b c", "not a list of landmarks"),
        ("0.5 " * 68, "not whole numbers"),
    ],
)
def test_lists_that_are_none_get_a_sentence(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ModelFileError, match=message):
        read_landmarks(tmp_path / "list.txt", 68)


def test_a_pickled_array_is_not_opened(tmp_path):
    np.save(tmp_path / "list.npy", np.array([print] * 68, dtype=object), allow_pickle=True)
    with pytest.raises(ModelFileError, match="not a list of landmarks"):
        read_landmarks(tmp_path / "list.npy", 68)


def test_detector_finds_the_open_models_own_landmarks():
    model = open_model()
    x = model.mean_shape.astype(float)
    found = find_landmarks(x, model.triangles.astype(np.int64), model.mean_reflectance.astype(float))
    off = np.linalg.norm(x[found] - x[model.landmarks_68], axis=1)
    assert off[17:].mean() < 4.0 and np.isin(found, model.regions["skin"]).all()


def test_a_model_without_a_face_gets_a_sentence():
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-50, 50, 9), np.linspace(-50, 50, 9)))
    corner = np.arange(81).reshape(9, 9)[:-1, :-1].ravel()
    flat = np.stack((corner, corner + 1, corner + 10), -1)
    with pytest.raises(ModelFileError, match="none were found.*--landmarks"):
        find_landmarks(np.stack((x, y, 0 * x), -1), flat)
