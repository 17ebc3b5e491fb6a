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


@pytest.fixture
def published(files):
    """The layout that is published: unit columns, the lone array of triangles, the coefficients' mean and deviation."""
    paths, parts, _ = files
    rng = np.random.default_rng(3)
    parts = parts | {"w_shp": basis(50, 1.0, 0), "w_exp": basis(20, 900.0, 1), "tri": np.zeros((3, 4), int)}
    scale = {"mean": rng.normal(size=62) * 1e5, "std": rng.uniform(1, 2, 62) * 1e5}
    scale = {name: np.where(np.arange(62) < 52, value, value / 1e5) for name, value in scale.items()}
    paths = [*paths, paths[0].with_name("param_mean_std_62d_120x120.pkl")]
    for path, content in zip(paths, (parts, TRIANGLES.T, scale), strict=True):
        path.write_bytes(pickle.dumps(content, 2))
    return paths, parts, scale


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_code_is_what_the_network_predicts(published, order):
    paths, parts, scale = published
    raw = read_model("3ddfa_v2", [paths[i] for i in order])
    z = code(62, 0)
    coefficients = z * scale["std"] + scale["mean"]
    expected = parts["u"][:, 0] + parts["w_shp"][:, :40] @ coefficients[12:52]
    expected = (expected + parts["w_exp"][:, :10] @ coefficients[52:]).reshape(-1, 3) / 1000
    np.testing.assert_allclose(vertices(raw, z[12:52], z[52:]), expected, rtol=1e-9)
    np.testing.assert_array_equal(raw.triangles, TRIANGLES)


def test_modes_without_their_deviations_are_refused(published):
    with pytest.raises(ModelFileError, match=r"give param_mean_std_62d_120x120\.pkl too"):
        read_model("3ddfa_v2", published[0][:2])


def test_triangles_of_another_mesh_are_refused(published):
    paths = published[0]
    paths[1].write_bytes(pickle.dumps(TRIANGLES.T + 5, 2))
    with pytest.raises(ModelFileError, match=r"give the tri\.pkl that belongs to the model"):
        read_model("3ddfa_v2", paths)
