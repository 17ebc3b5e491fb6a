from dataclasses import replace

import numpy as np
import pytest
import torch
from little_face import LITTLE, little_arrays, little_model
from scipy.sparse import csr_matrix, random_array

from mofaface.face_model import FaceModel, SparseMatrix
from mofaface.face_models import load_face_model
from mofaface.landmarks import LANDMARKS_46


def sparse(matrix):
    csr = csr_matrix(matrix)
    return SparseMatrix(csr.indptr, csr.indices, csr.data.astype(np.float32), csr.shape[1])


def test_geometry_and_reflectance_are_mean_plus_bases():
    model, a = little_model(), little_arrays()
    random = np.random.default_rng(1)
    alpha, delta, beta = (random.normal(size=(2, k)) for k in (5, 4, 3))
    V = a.mean_shape + np.einsum("nck,bk->bnc", a.shape_basis, alpha)
    V = V + np.einsum("nck,bk->bnc", a.expression_basis, delta)
    R = a.mean_reflectance + np.einsum("nck,bk->bnc", a.reflectance_basis, beta)
    torch.testing.assert_close(model.geometry(*map(torch.tensor, (alpha, delta))), torch.tensor(V))
    torch.testing.assert_close(model.reflectance(torch.tensor(beta)), torch.tensor(R))


def test_sparse_matrix_product_equals_scipy_s():
    S = random_array((40, 17), density=0.2, rng=np.random.default_rng(0))
    dense = np.random.default_rng(1).normal(size=(17, 3, 4)).astype(np.float32)
    truth = np.einsum("rc,cxk->rxk", S.toarray(), dense)
    np.testing.assert_allclose(sparse(S) @ dense, truth, atol=1e-6)


def test_subdividing_the_bases_is_subdividing_every_face():
    a = little_arrays()
    S = random_array((120, 81), density=0.05, rng=np.random.default_rng(0))
    zeros = np.zeros((120, 3), np.float32)
    fine = replace(
        a,
        subdivision=sparse(S),
        mean_reflectance=zeros,
        reflectance_basis=np.zeros((120, 3, 3), np.float32),
        uv=None,
        mirror=None,
    )
    alpha, delta = torch.randn(1, 5), torch.randn(1, 4)
    cage = FaceModel(a).geometry(alpha, delta)
    truth = torch.tensor(S.toarray(), dtype=torch.float32) @ cage
    torch.testing.assert_close(FaceModel(fine).geometry(alpha, delta), truth, atol=1e-3, rtol=1e-5)


def test_the_layout_comes_from_the_bases():
    assert little_model().layout == LITTLE
    assert little_model().vertices == 81


def test_the_46_landmarks_are_those_of_the_68():
    model = little_model()
    assert model.landmarks_46.tolist() == model.landmarks_68[list(LANDMARKS_46)].tolist()
    assert len(model.landmarks_46) == 46


def test_a_checkpoint_holds_no_face_model_data():
    assert little_model().state_dict() == {}


def test_coarse_shows_the_same_faces_on_fewer_vertices():
    model = little_model(side=17)
    coarse = model.coarse()
    alpha, delta = torch.randn(1, 5).double(), torch.randn(1, 4).double()
    fine, few = model.geometry(alpha, delta), coarse.geometry(alpha, delta)
    assert coarse.vertices == 81 and few.dtype == torch.float64
    torch.testing.assert_close(few, fine[:, torch.tensor(model.arrays.coarse_vertices)])
    torch.testing.assert_close(few[:, coarse.landmarks_68], fine[:, model.landmarks_68])
    torch.testing.assert_close(
        coarse.reflectance(torch.ones(1, 3).double())[:, coarse.landmarks_68],
        model.reflectance(torch.ones(1, 3).double())[:, model.landmarks_68],
    )


def test_coarse_without_a_coarse_mesh_is_the_model_itself():
    model = little_model()
    assert model.coarse() is model


def test_a_coarse_mesh_without_a_landmark_is_refused():
    a = little_arrays(side=17)
    lacking = np.setdiff1d(a.coarse_vertices, a.landmarks_68[:1])
    with pytest.raises(ValueError, match="lacks some of its landmarks"):
        FaceModel(replace(a, coarse_vertices=lacking)).coarse()


def test_model_without_a_frontal_part_compares_all_of_it():
    assert little_model().frontal.all()


def test_frontal_part_survives_on_the_coarse_mesh():
    model = load_face_model()
    assert 0.6 < model.frontal.float().mean() < 0.9
    kept = torch.from_numpy(model.arrays.coarse_vertices.astype("int64"))
    assert torch.equal(model.coarse().frontal, model.frontal[kept])


def test_frontal_part_has_no_upper_forehead_and_no_hidden_eyeball():
    model = load_face_model()
    heights = model.mean_shape[:, 1]
    assert not model.frontal[heights > 101].any()
    assert model.frontal[model.regions["left_eye"]].float().mean() < 0.5
    assert model.frontal[model.landmarks_68[17:]].float().mean() > 0.95
