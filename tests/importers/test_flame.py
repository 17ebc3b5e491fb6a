"""FLAME: linear parts are exact, and the jaw's modes are the derivative of skinning."""

import pickle

import numpy as np
import pytest
from scipy.sparse import csc_matrix
from scipy.spatial.transform import Rotation

from importers.files import MEAN, TRIANGLES, N, code, vertices
from mofaface.face_models.importers import ModelFileError, read_model
from mofaface.face_models.importers.flame import JAW, JAW_SIGMA, jaw_modes


@pytest.fixture(scope="module")
def flame():
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(5), N)
    return {
        "v_template": MEAN / 1000, "f": TRIANGLES.astype(np.uint32), "weights": weights,
        "shapedirs": 1e-3 * random.normal(size=(N, 3, 400)), "posedirs": 1e-2 * random.normal(size=(N, 3, 36)),
        "J_regressor": random.dirichlet(np.ones(N), 5),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
    }  # fmt: skip


def posed(a, w):
    """Skinning with the jaw turned by the rotation vector w, everything else at rest."""
    R = Rotation.from_rotvec(w).as_matrix()
    joint = (a["J_regressor"] @ a["v_template"])[JAW]
    feature = np.zeros(36)
    feature[9 * (JAW - 1) : 9 * JAW] = (R - np.eye(3)).ravel()
    v = a["v_template"] + a["posedirs"] @ feature
    weight = a["weights"][:, JAW : JAW + 1]
    return (1 - weight) * v + weight * ((v - joint) @ R.T + joint)


def test_jaw_modes_are_the_derivative_of_skinning(flame):
    step = 1e-6
    for k, axis in enumerate(np.eye(3)):
        difference = (posed(flame, step * axis) - posed(flame, -step * axis)) / (2 * step)
        np.testing.assert_allclose(jaw_modes(flame)[..., k], JAW_SIGMA[k] * difference, atol=1e-8)


@pytest.mark.parametrize("kind", ["npz", "pkl"])
def test_faces_are_shape_and_expression_in_millimetres(flame, tmp_path, kind):
    path = tmp_path / f"generic_model.{kind}"
    if kind == "npz":
        np.savez(path, **flame)
    else:
        path.write_bytes(pickle.dumps(flame | {"J_regressor": csc_matrix(flame["J_regressor"])}, 2))
    raw = read_model("flame", [path])
    assert (raw.shape_basis.shape[-1], raw.expression_basis.shape[-1]) == (300, 103)
    alpha, delta = code(300, 0), code(103, 1)
    linear = flame["v_template"] + flame["shapedirs"] @ np.r_[alpha, delta[:100]]
    expected = 1000 * (linear + jaw_modes(flame) @ delta[100:])
    np.testing.assert_allclose(vertices(raw, alpha, delta), expected)
    # A named unit of one radian is the derivative itself.
    one = raw.expression_basis @ raw.units[0]
    np.testing.assert_allclose(one, 1000 * jaw_modes(flame)[..., 0] / JAW_SIGMA[0])


def test_a_texture_space_gives_the_vertices_colours(flame, tmp_path):
    np.savez(tmp_path / "flame.npz", **flame)
    random, size = np.random.default_rng(1), 16
    uv = random.uniform(0.05, 0.95, (N, 2))
    texture = {
        "mean": random.uniform(0, 255, (size, size, 3)),
        "tex_dir": random.normal(size=(size, size, 3, 4)),
    }
    np.savez(tmp_path / "FLAME_texture.npz", **texture, vt=uv, ft=TRIANGLES)
    raw = read_model("flame", [tmp_path / "FLAME_texture.npz", tmp_path / "flame.npz"])
    i = 7
    row, column = int((1 - uv[i, 1]) * size), int(uv[i, 0] * size)
    beta = code(4, 0)
    bgr = (texture["mean"] + texture["tex_dir"] @ beta)[row, column]
    np.testing.assert_allclose((raw.mean_reflectance + raw.reflectance_basis @ beta)[i], bgr[::-1] / 255)


def test_a_part_of_a_model_is_refused(flame, tmp_path):
    np.savez(tmp_path / "part.npz", v_template=flame["v_template"], f=flame["f"])
    with pytest.raises(ModelFileError, match="must hold shapedirs, posedirs, J_regressor, weights"):
        read_model("flame", [tmp_path / "part.npz"])
    np.savez(tmp_path / "none.npz", a=np.zeros(2))
    with pytest.raises(ModelFileError, match="needs one file with v_template"):
        read_model("flame", [tmp_path / "none.npz"])
