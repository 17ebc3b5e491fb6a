from dataclasses import replace

import numpy as np
import pytest
import torch
from little_face import LITTLE, little_model, random_code, smooth_image

from mofaface.code import Code
from mofaface.decoder import Decoder
from mofaface.fit import POSE, FitConfig, Stage, blurred, fit, minimise
from mofaface.fit_energy import Problem, Tools
from mofaface.losses import LossWeights
from mofaface.rasterizer import render

DECODER = Decoder(little_model(side=17))
ONE_STAGE = FitConfig(landmark_stages=(), stages=(Stage(coarse=False, iterations=40),))


def photograph(code: Code) -> torch.Tensor:
    """A rendered picture of a code over its mean colour, (1, 3, 240, 240) float64."""
    face = DECODER(code)
    picture = render(
        face.uv_crop[0].numpy(),
        face.x_camera[0, :, 2].numpy(),
        DECODER.model.triangles.numpy(),
        face.colour[0].numpy(),
        240,
        240,
        supersample=2,
    )
    skin = face.colour.mean((0, 1)).numpy()
    over = picture[..., :3] * picture[..., 3:] + skin * (1 - picture[..., 3:])
    return torch.tensor(over, dtype=torch.float64).permute(2, 0, 1)[None]


def a_face() -> Code:
    return random_code(LITTLE, seed=4, size=0.7)


def perturbed(code: Code) -> Code:
    """A start some pixels and degrees away, with average shape, reflectance and light."""
    zero = LITTLE.zero(dtype=torch.float64)
    return replace(zero, rotation=code.rotation + 0.06, translation=code.translation + 2.0)


def pixels_apart(a: Code, b: Code) -> float:
    return (DECODER(a).uv_crop - DECODER(b).uv_crop).norm(dim=-1).mean().item()


def test_fit_recovers_a_known_code_from_a_rendered_picture():
    truth = a_face()
    start = perturbed(truth)
    config = FitConfig(stages=(Stage(blur=4.0), Stage(coarse=False, iterations=40)))
    found = fit(photograph(truth), DECODER, start=start, config=config)
    # The truth's own energy is not zero: vertices on the outline see half of the background.
    assert pixels_apart(start, truth) > 3
    assert found.energy < Problem(photograph(truth), Tools(DECODER), LossWeights(), None).energy(
        LITTLE.pack(truth)[0]
    )
    assert pixels_apart(found.code, truth) < 1
    assert (found.code.rotation - truth.rotation).norm() < np.radians(2)
    assert (DECODER(found.code).colour - DECODER(truth).colour).abs().mean() < 0.01
    assert found.converged and found.reason


def test_a_fit_from_samples_ends_where_the_fit_from_all_vertices_ends():
    image, start = photograph(a_face()), perturbed(a_face())
    config = FitConfig(landmark_stages=(), stages=(Stage(coarse=False, iterations=100),))
    few, all_of_them = (
        fit(image, DECODER, start=start, config=replace(config, sample=sample)) for sample in (100, None)
    )
    assert few.energy == pytest.approx(all_of_them.energy, rel=0.01)
    assert pixels_apart(few.code, all_of_them.code) < 0.2


def test_a_sample_in_which_nothing_is_seen_gives_no_nan():
    config = replace(ONE_STAGE, sample=1)
    back = replace(LITTLE.zero(dtype=torch.float64), rotation=torch.tensor([[0, np.pi - 0.5, 0]]))
    found = fit(photograph(a_face()), DECODER, start=back, config=config)
    assert np.isfinite(found.energy) and LITTLE.pack(found.code).isfinite().all()


def test_landmarks_bring_a_start_home_that_is_far_off():
    truth = replace(a_face(), rotation=torch.tensor([[0.1, 0.5, -0.1]]).double())
    places = DECODER(truth).uv_crop[:, DECODER.model.landmarks_46]
    found = fit(photograph(truth), DECODER, LossWeights(land=1.0), landmarks=places)
    assert pixels_apart(LITTLE.zero(dtype=torch.float64), truth) > 10
    assert pixels_apart(found.code, truth) < 1


@pytest.mark.parametrize("seed", [0, 1])
def test_fit_never_returns_worse_than_its_start(seed):
    image, start = smooth_image(seed), random_code(LITTLE, seed=seed)
    found = fit(image, DECODER, start=start, config=FitConfig(stages=(Stage(iterations=5),)))
    truth = Problem(image, Tools(DECODER), LossWeights(), None)
    assert found.energy <= found.energy_start
    assert truth.energy(LITTLE.pack(found.code)[0]) == pytest.approx(found.energy)
    assert truth.energy(LITTLE.pack(start)[0]) == pytest.approx(found.energy_start)


def test_fit_says_when_its_steps_were_used_up():
    found = fit(photograph(a_face()), DECODER, config=FitConfig(stages=(Stage(iterations=2),)))
    assert not found.converged and "used up" in found.reason and found.iterations == 2


def test_a_blank_picture_gives_a_sentence_and_the_start():
    start = random_code(LITTLE)
    found = fit(torch.full((1, 3, 240, 240), 0.5).double(), DECODER, start=start)
    assert not found.converged and "one colour" in found.reason
    assert torch.equal(found.code.alpha, start.alpha) and found.energy == found.energy_start


def test_a_start_without_any_visible_vertex_gives_no_nan():
    back = replace(LITTLE.zero(dtype=torch.float64), rotation=torch.tensor([[0, np.pi, 0]]))
    found = fit(photograph(a_face()), DECODER, start=back, config=ONE_STAGE)
    assert np.isfinite(found.energy) and found.energy <= found.energy_start
    assert LITTLE.pack(found.code).isfinite().all()


def test_a_start_behind_the_camera_gives_no_nan():
    behind = replace(LITTLE.zero(dtype=torch.float64), translation=torch.tensor([[0, 0, -3000.0]]).double())
    found = fit(photograph(a_face()), DECODER, start=behind, config=ONE_STAGE)
    assert LITTLE.pack(found.code).isfinite().all() and found.energy <= found.energy_start


def test_wild_landmarks_without_confidence_change_nothing():
    image, wild = photograph(a_face()), torch.full((1, 46, 2), 1e4).double()
    config = FitConfig(landmark_stages=(), stages=(Stage(iterations=4),))
    weights = LossWeights(land=1.0)
    ignored = fit(image, DECODER, weights, wild, torch.zeros(1, 46).double(), config=config)
    without = fit(image, DECODER, config=config)
    torch.testing.assert_close(LITTLE.pack(ignored.code), LITTLE.pack(without.code))


def test_only_the_free_parts_of_a_stage_move():
    config = FitConfig(stages=(Stage(POSE, iterations=3),))
    found = fit(photograph(a_face()), DECODER, config=config)
    moved = {name for name, part in vars(found.code).items() if part.any()}
    assert moved == set(POSE)


def test_a_strong_hold_keeps_the_start_but_for_the_light():
    config = FitConfig(stages=(Stage(coarse=False, hold=1e6, iterations=8),))
    found = fit(photograph(a_face()), DECODER, config=config)
    assert LITTLE.pack(replace(found.code, gamma=0 * found.code.gamma)).abs().max() < 1e-3
    assert found.code.gamma.abs().max() > 0.01


def test_minimise_lowers_the_energy_in_every_step_it_takes():
    image = photograph(a_face())
    problem = Problem(image, Tools(DECODER), LossWeights(), None)
    x = torch.zeros(LITTLE.size).double()
    energies = [minimise(problem, x, Stage(iterations=n), 0.0).energy for n in (1, 2, 4, 8)]
    assert all(b <= a for a, b in zip(energies, energies[1:], strict=False)) and energies[-1] < energies[0]


def test_blurred_keeps_a_flat_picture_and_the_mean_of_a_spot():
    flat = torch.full((1, 3, 20, 20), 0.25)
    torch.testing.assert_close(blurred(flat, 2.0), flat)
    spot = torch.zeros(1, 3, 41, 41)
    spot[..., 20, 20] = 1.0
    out = blurred(spot, 3.0)[0, 0]
    x = torch.arange(41.0) - 20
    torch.testing.assert_close(out.sum(), torch.tensor(1.0))
    assert ((out.sum(0) * x**2).sum() - 9).abs() < 0.3


@pytest.mark.parametrize("size, value, rule", [(100, 0.5, "240 × 240"), (240, np.nan, "finite")])
def test_a_picture_that_is_no_crop_is_refused(size, value, rule):
    image = torch.full((1, 3, size, 240), value)
    with pytest.raises(ValueError, match=rule):
        fit(image, DECODER)
