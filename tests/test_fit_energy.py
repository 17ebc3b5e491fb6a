from dataclasses import replace

import pytest
import torch
from little_face import LITTLE, little_arrays, little_model, random_code, smooth_image

from mofaface.decoder import Decoder
from mofaface.face_model import FaceModel
from mofaface.fit_energy import Hold, Landmarks, Problem, Tools
from mofaface.kernels import native_level
from mofaface.losses import LossWeights, landmark, photometric, total
from mofaface.sampling import sample_bilinear

DECODER = Decoder(little_model(side=17))


WEIGHTS = LossWeights(land=1.0, light=0.3, reg=0.01)


def a_problem(weights=WEIGHTS, sample=None):
    """A problem with landmarks and a hold, and a code."""
    x = LITTLE.pack(random_code(LITTLE))[0]
    random = torch.Generator().manual_seed(0)
    places = 120 + 40 * torch.randn(1, 46, 2, generator=random).double()
    landmarks = Landmarks(places, torch.rand(1, 46, generator=random).double())
    hold = Hold(torch.ones_like(x), torch.rand(len(x), generator=random).double())
    return Problem(smooth_image(), Tools(DECODER), weights, landmarks, hold, sample), landmarks, hold, x


@pytest.mark.parametrize("weights", [WEIGHTS, replace(WEIGHTS, photo=0.0), replace(WEIGHTS, land=0.0)])
def test_energy_is_the_loss_and_the_hold(weights):
    problem, landmarks, hold, x = a_problem(weights)
    code = LITTLE.unpack(x[None])
    face = DECODER(code)
    land = landmark(face, DECODER.model.landmarks_46, landmarks.places, landmarks.confidence, 240)
    truth = total(photometric(smooth_image(), face), land, code, weights)
    truth = truth + (hold.stiffness * (x - hold.centre) ** 2).sum()
    assert problem.energy(x) == pytest.approx(truth.item(), rel=1e-12)
    assert problem.slope(x)[0] == pytest.approx(truth.item(), rel=1e-12)


@pytest.mark.parametrize("weights", [WEIGHTS, replace(WEIGHTS, photo=0.0)])
@pytest.mark.parametrize("sample", [None, 40])
def test_slope_is_the_gradient_of_the_energy_of_all_vertices(weights, sample):
    problem, _, _, x = a_problem(weights, sample)
    _, g = problem.slope(x)
    h = 1e-6
    for k in range(LITTLE.size):
        d = h * torch.eye(LITTLE.size).double()[k]
        difference = (problem.energy(x + d) - problem.energy(x - d)) / (2 * h)
        assert difference == pytest.approx(g[k].item(), rel=2e-3, abs=1e-4), k


def test_matrix_is_that_of_the_whole_weighted_jacobian():
    problem, landmarks, _, x = a_problem()

    def function(x):
        face = DECODER(LITTLE.unpack(x[None]))
        r = sample_bilinear(smooth_image(), face.uv_crop) - face.colour
        return r[0], (face.uv_crop[0, DECODER.model.landmarks_46] - landmarks.places[0]) / 240

    (r, _), (J, J_land) = function(x), torch.func.jacrev(function)(x)
    weight = WEIGHTS.photo / 289 / r.norm(dim=-1).clamp(min=0.02) * DECODER(LITTLE.unpack(x[None])).front[0]
    truth = torch.einsum("nia,n,nib->ab", J, weight, J) + problem.prior.H
    truth += torch.einsum("nia,n,nib->ab", J_land, 2 * WEIGHTS.land * landmarks.confidence[0], J_land)
    torch.testing.assert_close(problem.matrix(x), truth)
    assert torch.linalg.eigvalsh(problem.matrix(x)).min() > -1e-9


def test_matrices_of_samples_tend_to_that_of_all_vertices():
    problem, _, _, x = a_problem()
    truth = problem.matrix(x)
    sampled, _, _, _ = a_problem(sample=60)
    errors = [((sampled.matrix(x) - truth).norm() / truth.norm()).item() for _ in range(24)]
    assert 0 < errors[-1] < 0.05 and errors[-1] < errors[0]
    assert errors[1] == errors[0] == errors[2] != errors[3]


def test_samples_are_spread_and_fall_between_each_other():
    tools = Tools(DECODER)
    assert torch.equal(tools.rows.sort().values, torch.nonzero(DECODER.model.frontal)[:, 0])
    place = torch.argsort(tools.rows)
    for turn in range(5):
        sample = place[tools.sample(50, turn)]
        assert (sample.diff() >= 289 // 50).all() and (sample.diff() <= 289 // 50 + 1).all()
    assert len(set(torch.cat([tools.sample(50, turn) for turn in range(5)]).tolist())) > 230


def test_a_sample_of_more_vertices_than_there_are_is_all_of_them():
    problem, _, _, x = a_problem(sample=1000)
    torch.testing.assert_close(problem.matrix(x), a_problem()[0].matrix(x))
    assert not torch.equal(problem.matrix(x + 0.1), problem.matrix(x))


def test_the_expansion_of_quadratic_terms_is_exact():
    x, d = LITTLE.pack(random_code(LITTLE, batch=2))
    problem = Problem(smooth_image(), Tools(DECODER), LossWeights(photo=0.0, light=0.3, reg=0.01))
    (E, g), H = problem.slope(x), problem.matrix(x)
    assert problem.energy(x + d) == pytest.approx(E + (g @ d + d @ H @ d / 2).item())


def test_the_energy_of_a_code_that_is_no_number_is_infinite():
    problem = Problem(smooth_image(), Tools(DECODER), LossWeights())
    assert problem.energy(torch.full((LITTLE.size,), torch.inf).double()) == torch.inf
    assert problem.slope(torch.full((LITTLE.size,), torch.nan).double())[0] == torch.inf


@pytest.mark.skipif(native_level() is None, reason="no compiled kernel is installed")
def test_the_compiled_slope_is_the_plain_one():
    model = FaceModel(little_arrays(17))
    fast, x = Problem(smooth_image().float(), Tools(Decoder(model)), LossWeights()), a_problem()[-1]
    plain = Problem(smooth_image(), Tools(DECODER), LossWeights())
    (E, g), (truth, g_truth) = fast.slope(x.float()), plain.slope(x)
    assert E == pytest.approx(truth, rel=1e-5)
    torch.testing.assert_close(g, g_truth, rtol=1e-2, atol=1e-3 * g_truth.abs().max().item())
