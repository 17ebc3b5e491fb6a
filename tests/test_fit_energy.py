import pytest
import torch
from little_face import LITTLE, little_model, random_code, smooth_image

from mofaface.decoder import Decoder
from mofaface.fit_energy import Hold, Landmarks, Problem, Tools
from mofaface.losses import LossWeights

DECODER = Decoder(little_model(side=17))


def test_gradient_of_the_system_is_the_gradient_of_the_energy():
    image, x = smooth_image(), LITTLE.pack(random_code(LITTLE))[0]
    places = 120 + 40 * torch.randn(1, 46, 2, generator=torch.Generator().manual_seed(0)).double()
    landmarks = Landmarks(places, torch.rand(1, 46).double())
    hold = Hold(torch.ones_like(x), torch.rand_like(x))
    problem = Problem(image, Tools(DECODER), LossWeights(land=1.0, light=0.3, reg=0.01), landmarks, hold)
    g, H = problem.system(x)
    h = 1e-6
    for k in range(LITTLE.size):
        d = h * torch.eye(LITTLE.size).double()[k]
        difference = (problem.energy(x + d) - problem.energy(x - d)) / (2 * h)
        assert difference == pytest.approx(g[k].item(), rel=2e-3, abs=1e-4), k
    assert torch.linalg.eigvalsh(H).min() > -1e-9


def test_the_expansion_of_quadratic_terms_is_exact():
    x, d = LITTLE.pack(random_code(LITTLE, batch=2))
    problem = Problem(smooth_image(), Tools(DECODER), LossWeights(photo=0.0, light=0.3, reg=0.01))
    g, H = problem.system(x)
    assert problem.energy(x + d) == pytest.approx(problem.energy(x) + (g @ d + d @ H @ d / 2).item())


def test_the_energy_of_a_code_that_is_no_number_is_infinite():
    problem = Problem(smooth_image(), Tools(DECODER), LossWeights())
    assert problem.energy(torch.full((LITTLE.size,), torch.inf).double()) == torch.inf
