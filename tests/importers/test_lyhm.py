"""LYHM: structures of mean, vectors and variances."""

import numpy as np
import pytest
from scipy.io import savemat

from importers.files import MEAN, TRIANGLES, N, basis, code, sigmas, vertices
from mofaface.face_models.importers import ModelFileError, read_model


def part(mean, k, seed):
    return {"mu": mean.reshape(1, -1), "eigVec": basis(k, 1, seed), "eigVal": sigmas(k, seed)[:, None] ** 2}


def test_faces_are_mean_plus_vectors_times_roots_of_variances(tmp_path):
    shape, texture = part(MEAN, 4, 0), part(np.full((N, 3), 128.0), 3, 1)
    savemat(tmp_path / "LYHM.mat", {"shp": shape, "tex": texture, "tri": TRIANGLES + 1})
    raw = read_model("lyhm", [tmp_path / "LYHM.mat"])
    alpha = code(4, 0)
    expected = MEAN.ravel() + shape["eigVec"] @ (np.sqrt(shape["eigVal"][:, 0]) * alpha)
    np.testing.assert_allclose(vertices(raw, alpha, np.zeros(0)), expected.reshape(-1, 3))
    np.testing.assert_allclose(raw.mean_reflectance, 128 / 255)
    np.testing.assert_array_equal(raw.triangles, TRIANGLES)


def test_another_layout_is_sent_to_the_linear_format(tmp_path):
    savemat(tmp_path / "other.mat", {"shp": {"mean": MEAN}, "tri": TRIANGLES + 1})
    with pytest.raises(ModelFileError, match=r"must hold shp\.mu.*'linear'"):
        read_model("lyhm", [tmp_path / "other.mat"])
