"""3DDFA_V2's pickles give its faces, in mm."""

import pickle

import numpy as np
import pytest

from importers.files import MEAN, TRIANGLES, N, basis, code, vertices
from mofaface.face_models.importers import ModelFileError, read_model


@pytest.fixture
def files(tmp_path):
    marks = np.random.default_rng(0).choice(N, 68)
    parts = {
        "u": 1000 * MEAN.reshape(-1, 1).astype(np.float32), "w_shp": basis(40, 900.0, 0).astype(np.float32),
        "w_exp": basis(10, 500.0, 1).astype(np.float32),
        "keypoints": np.stack([3 * marks, 3 * marks + 1, 3 * marks + 2], 1).ravel(),
    }  # fmt: skip
    (tmp_path / "bfm_noneck_v3.pkl").write_bytes(pickle.dumps(parts, 2))
    (tmp_path / "tri.pkl").write_bytes(pickle.dumps({"tri": TRIANGLES.T + 1}, 2))
    return [tmp_path / "bfm_noneck_v3.pkl", tmp_path / "tri.pkl"], parts, marks


def test_faces_triangles_and_landmarks(files):
    paths, parts, marks = files
    raw = read_model("3ddfa_v2", paths)
    alpha, delta = code(40, 0), code(10, 1)
    expected = (parts["u"][:, 0] + parts["w_shp"] @ alpha + parts["w_exp"] @ delta).reshape(-1, 3) / 1000
    np.testing.assert_allclose(vertices(raw, alpha, delta), expected, rtol=1e-5)
    np.testing.assert_array_equal(raw.triangles, TRIANGLES)
    np.testing.assert_array_equal(raw.landmarks_68, marks)
    assert raw.mean_reflectance is None


def test_missing_triangles_are_asked_for(files):
    with pytest.raises(ModelFileError, match=r"must hold tri; .*tri\.pkl"):
        read_model("3ddfa_v2", files[0][:1])
