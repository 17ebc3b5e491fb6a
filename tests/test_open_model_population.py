"""The population: known statistics of known targets come back; the shipped file and model keep what they promise."""

from pathlib import Path

import numpy as np
import pytest
from little_face import little_arrays

from mofaface.face_models import load_face_model
from mofaface.face_models.gaussian_process import smooth_basis
from mofaface.face_models.open_model.generalisation import (
    displacement_errors,
    rigid_shares,
    skin_of,
    specificity,
)
from mofaface.face_models.open_model.identities import (
    CarriedIdentities,
    area_share,
    carry_identities,
    least_squares,
    read_identities,
    rigid_fields,
    without_rigid,
)
from mofaface.face_models.open_model.population import (
    measure_population,
    read_population,
    write_population,
)
from mofaface.face_models.open_model.sources import SourceError
from mofaface.face_models.registration import Registration
from mofaface.face_models.surface import Correspondence, Surface

LITTLE = little_arrays(15)
SURFACE = Surface(LITTLE.mean_shape.astype(float), LITTLE.triangles)
WEIGHT = area_share(SURFACE, np.ones(len(SURFACE.positions), bool))
ICT = Path(__file__).parents[1].parent / "shared/data/ict_facekit/ict_face_and_eyes.npz"


def carried(mean, modes):
    n = len(mean)
    near = Correspondence(np.zeros(n, np.int64), np.full((n, 3), 1 / 3), np.ones(n, bool))
    return CarriedIdentities(Registration(mean, 1.0, np.eye(3), np.zeros(3), near), mean, modes, WEIGHT)


@pytest.fixture(scope="module")
def targets():
    return without_rigid(LITTLE.shape_basis.astype(float), SURFACE.positions, WEIGHT)


def test_least_squares_is_that_of_numpy():
    random = np.random.default_rng(0)
    basis, field, weight = random.normal(size=(9, 3, 4)), random.normal(size=(9, 3, 2)), random.random(9)
    root = np.sqrt(np.repeat(weight, 3))[:, None]
    A = np.concatenate([basis.reshape(27, 4) * root, np.sqrt(0.3) * np.eye(4)])
    B = np.concatenate([field.reshape(27, 2) * root, np.zeros((4, 2))])
    expected = np.linalg.lstsq(A, B, rcond=None)[0]
    np.testing.assert_allclose(least_squares(basis, field, weight, np.full(4, 0.3)), expected)


def test_nothing_rigid_is_left_and_size_stays():
    rigid = rigid_fields(SURFACE.positions, WEIGHT)
    np.testing.assert_allclose(without_rigid(rigid, SURFACE.positions, WEIGHT), 0, atol=1e-9)
    growth = (SURFACE.positions - WEIGHT @ SURFACE.positions)[..., None]
    np.testing.assert_allclose(without_rigid(growth, SURFACE.positions, WEIGHT), growth, atol=1e-9)


def test_weights_of_known_faces_come_back(targets):
    random = np.random.default_rng(1)
    weights, mean = random.normal(size=(5, 8)), 0.1 * random.normal(size=5)
    found = measure_population(
        carried(SURFACE.positions + targets @ mean, targets @ weights),
        SURFACE.positions,
        targets,
        np.full(5, 10.0),
        smooth_basis(SURFACE, 32),
    )
    np.testing.assert_allclose(found.mean, mean, atol=1e-3)
    np.testing.assert_allclose(found.covariance, weights @ weights.T, atol=1e-2)
    assert found.spectrum.max() < 1e-3


def test_the_spectrum_tells_what_the_targets_lack(targets):
    basis = smooth_basis(SURFACE, 32, LITTLE.mirror)
    even = int(np.flatnonzero(basis.parity == 1)[0])
    modes = np.zeros((len(SURFACE.positions), 3, 2))
    modes[:, 1, 0] = 2.0 * basis.fields[:, even]  # along y, 2 mm, in the first band
    modes[:, 1, 1] = 2.0 * basis.fields[:, even + 1] * (basis.parity[even + 1] == 1)
    nothing = np.zeros((len(SURFACE.positions), 3, 1))
    found = measure_population(
        carried(SURFACE.positions, modes), SURFACE.positions, nothing, np.ones(1), basis
    )
    assert found.spectrum[0, 0, 1] > 10 * found.spectrum[1].max()
    assert found.spectrum[0, 0, 1] > 5 * found.spectrum[0, 0, [0, 2]].max()


def test_the_file_comes_back_and_others_are_refused(tmp_path, targets):
    found = measure_population(
        carried(SURFACE.positions, targets),
        SURFACE.positions,
        targets,
        np.ones(5),
        smooth_basis(SURFACE, 32, LITTLE.mirror),
    )
    write_population(tmp_path / "p.npz", found)
    again = read_population(tmp_path / "p.npz")
    np.testing.assert_allclose(again.covariance, found.covariance, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again.spectrum, found.spectrum, rtol=1e-5)
    with pytest.raises(SourceError, match="must hold the population's mean"):
        read_population(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(SourceError, match="must be ICT-FaceKit"):
        read_identities(tmp_path / "other.npz")


def test_the_shipped_covariance_is_one():
    population = read_population()
    np.testing.assert_allclose(population.covariance, population.covariance.T)
    values = np.linalg.eigvalsh(population.covariance)
    assert values.min() > -1e-4 * values.max()


def test_shipped_modes_are_of_the_size_of_people_and_nothing_in_them_is_rigid():
    skin = skin_of(load_face_model().arrays)
    weight = area_share(skin.surface, np.ones(len(skin.surface.positions), bool))
    assert rigid_shares(skin, weight).max() < 0.02
    spread = np.sqrt(weight @ (skin.modes**2).sum(axis=(1, 2)))
    assert 3.5 < spread < 5.5


def test_a_space_is_near_itself_and_far_from_another(targets):
    skin = skin_of(LITTLE)
    own, codes = carried(SURFACE.positions, targets), np.random.default_rng(0).normal(size=(4, 5))
    assert displacement_errors(skin, own, codes).max() < 0.05
    assert specificity(skin, own, 4, 0).max() < 0.05
    other = carried(
        SURFACE.positions,
        without_rigid(little_arrays(15, seed=7).shape_basis.astype(float), SURFACE.positions, WEIGHT),
    )
    assert displacement_errors(skin, other, codes).min() > 0.2


@pytest.mark.skipif(not ICT.exists(), reason="ICT-FaceKit is not at hand")
def test_real_identities_lose_their_rigid_fifth():
    identities = read_identities(ICT)
    share = area_share(identities.surface, np.ones(len(identities.surface.positions), bool))
    still = without_rigid(identities.modes, identities.surface.positions, share)
    total, left = ((share @ (m**2).sum(axis=(1, 2))) for m in (identities.modes, still))
    assert 0.1 < 1 - left / total < 0.4


@pytest.mark.skipif(not ICT.exists(), reason="ICT-FaceKit is not at hand")
def test_identities_carried_to_their_own_mesh_stay_what_they_are():
    identities = read_identities(ICT)
    few = type(identities)(identities.surface, identities.modes[..., :3], identities.landmarks_68)
    template = Surface(identities.surface.positions * 1.02, identities.surface.triangles)
    found = carry_identities(few, template, few.landmarks_68)
    share = area_share(identities.surface, np.ones(len(template.positions), bool))
    still = without_rigid(few.modes, identities.surface.positions, share)
    gap = np.linalg.norm(found.modes - still, axis=1).mean(axis=1)
    assert np.median(gap[found.weight > 0]) < 0.5
