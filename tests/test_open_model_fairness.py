"""Reflectance by group: groups are read and drawn fairly, and a face of the model is explained."""

from pathlib import Path

import numpy as np
import pytest

from mofaface.face_models import load_face_model
from mofaface.face_models.open_model.fairness import Explained, chosen, explain, group_of, most_likely, table
from mofaface.face_models.open_model.portraits import Sighting


def test_groups_are_those_of_the_file_names():
    names = ["25_0_1_20170116.jpg.chip.jpg", "dir/3_1_4_x.jpg", "photo.jpg", "1_2_9_x.jpg"]
    assert [group_of(n) for n in names] == ["black", "others", "unknown", "unknown"]


def test_as_many_adults_of_every_group_are_drawn_whatever_the_order():
    photos = [(f"{age}_0_{group}_{i}.jpg", b"") for age in (9, 30) for group in (0, 1, 2) for i in range(9)]
    first = chosen(photos, 4, 0)
    assert len(first) == 12
    assert all(name.startswith("30_") for name, _ in first)
    assert {group_of(n) for n, _ in first} == {"white", "black", "asian"}
    assert first == chosen(photos, 4, 0) != chosen(photos, 4, 1)


def test_most_likely_coefficients_are_ridge_regression():
    random = np.random.default_rng(0)
    basis, offset, weight = random.normal(size=(40, 3, 3)), random.normal(size=(40, 3)), random.random(40)
    root = np.sqrt(np.repeat(weight / weight.sum() * 600, 3))
    A = np.concatenate([basis.reshape(-1, 3) * root[:, None], 0.06 * np.eye(3)])
    expected = np.linalg.lstsq(A, np.r_[offset.ravel() * root, np.zeros(3)], rcond=None)[0]
    np.testing.assert_allclose(most_likely(offset, basis, weight), expected, rtol=1e-4)


def test_a_face_of_the_model_under_even_light_is_explained_almost_wholly():
    model = load_face_model()
    beta = 0.5 * np.random.default_rng(0).normal(size=80).astype(np.float32)
    colour = 0.9 * (model.mean_reflectance.numpy() + model.reflectance_basis.numpy() @ beta)
    normal = np.tile([0.0, 0, -1], (len(colour), 1))
    normal += 0.3 * np.random.default_rng(1).normal(size=normal.shape)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    result = explain(Sighting("30_0_1_x.jpg", colour, normal, np.ones(len(colour))), model)
    assert result.group == "black"
    assert result.error < 0.02
    assert abs(result.lightness_bias) < 1


def test_the_table_compares_with_the_best_group_that_has_enough_people():
    def some(error, n):
        return [Explained("g", 0.0, error, error, 0.0)] * n

    results = some(0.02, 12) + some(0.03, 12) + some(0.001, 2)
    text = table(results, {i: "a" if i < 12 else "b" if i < 24 else "c" for i in range(26)})
    rows = text.splitlines()
    assert "×1.00" in rows[0] and "×1.50" in rows[1] and "too few" in rows[2]


@pytest.mark.parametrize("path", [Path("x/25_1_0_1.jpg")])
def test_paths_count_by_their_last_part(path):
    assert group_of(str(path)) == "white"
