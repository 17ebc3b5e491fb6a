"""Weights of face units: SciPy's bounded least squares as the truth, and both directions on a model."""

from dataclasses import replace

import numpy as np
import pytest
from little_face import little_arrays
from scipy.optimize import lsq_linear

from mofaface.face_models import OPEN_MODEL
from mofaface.face_models.container import read_arrays
from mofaface.face_models.face_units import FaceUnits, FaceUnitsError, box_least_squares, measure


def units(seed: int = 0) -> FaceUnits:
    return FaceUnits.of(little_arrays(seed=seed))


def test_weights_agree_with_scipys_bounded_least_squares():
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((30, 8)), 12 * rng.standard_normal((5, 30))
    found = box_least_squares(A.T @ A, b @ A, 1.0)
    truth = np.stack([lsq_linear(A, row, (0, 1), method="bvls").x for row in b])
    assert np.allclose(found, truth, atol=1e-4)
    assert (truth == 0).any() and (truth == 1).any()


def test_weights_come_back_from_their_own_code():
    view, given = units(), np.array([[0.3, 0.8], [1.0, 0.0], [0.0, 0.25]])
    assert np.allclose(view.weights(view.delta(given)), given, atol=1e-4)


def test_weights_have_the_batch_of_the_code_and_stay_in_their_box():
    view = units()
    found = view.weights(np.random.default_rng(1).normal(size=(2, 3, 4)) * 3)
    assert found.shape == (2, 3, 2) and found.min() == 0 and found.max() <= 1
    assert view.weights(np.zeros(4)).tolist() == [0, 0]


def test_motion_is_that_of_the_vertices():
    arrays, delta = little_arrays(), np.array([0.5, -1.0, 2.0, 0.1])
    moved = arrays.expression_basis.astype(np.float64) @ delta
    assert units().motion_mm(delta) == pytest.approx(np.sqrt((moved**2).sum(axis=1).mean()))


def test_a_unit_that_moves_nothing_gets_no_weight():
    arrays = little_arrays()
    still = replace(arrays, units_expression=np.stack([arrays.units_expression[0], np.zeros(4, np.float32)]))
    assert FaceUnits.of(still).weights(np.ones((3, 4)))[:, 1].tolist() == [0, 0, 0]


def test_a_model_without_units_says_how_to_get_some():
    with pytest.raises(FaceUnitsError, match="build-expression"):
        FaceUnits.of(replace(little_arrays(), unit_names=(), units_expression=None))


@pytest.mark.skipif(not OPEN_MODEL.is_file(), reason="the asset has not been built")
def test_the_open_models_units_survive_the_way_there_and_back():
    view = FaceUnits.of(read_arrays(OPEN_MODEL)[0])
    report = measure(view)
    moving = report.unit_motion_mm > 0.05
    assert len(view.names) == 52 and moving.sum() == 51
    assert report.unit_mm.max() < 0.02 and report.round_trip_mm < 0.02
    assert (np.abs(report.unit_weight[moving] - 1) < 0.1).all()
