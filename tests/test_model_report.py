"""The figures of a face model."""

from dataclasses import replace

import numpy as np
import pytest
from little_face import little_arrays

from mofaface.face_model import FaceModel
from mofaface.model_report import basis_figures, report_lines, share_outside, shortened


def test_spread_is_the_root_mean_square_distance_of_random_faces():
    basis = little_arrays(side=17).shape_basis
    c = np.random.default_rng(0).standard_normal((20000, 5))
    gram = basis.reshape(-1, 5).T @ basis.reshape(-1, 5)
    truth = np.sqrt(np.einsum("ni,ij,nj->n", c, gram, c).mean() / len(basis))
    assert basis_figures(basis)["spread per vertex"] == pytest.approx(truth, rel=0.02)


def test_shares_are_those_of_principal_modes_whatever_basis_the_file_has():
    random = np.random.default_rng(1)
    Q = np.linalg.qr(random.normal(size=(120, 10)))[0]
    basis = (Q * np.sqrt(np.arange(10, 0, -1))).reshape(40, 3, 10)
    turn = np.linalg.qr(random.normal(size=(10, 10)))[0]
    for b in (basis, basis @ turn):
        shares = basis_figures(b)["share of the first modes"]
        assert shares == {1: pytest.approx(10 / 55, abs=1e-4), 5: pytest.approx(40 / 55, abs=1e-4), 10: 1.0}
    assert basis_figures(basis)["worst cosine between modes"] < 1e-12
    assert basis_figures(basis @ turn)["worst cosine between modes"] > 0.01


def test_a_basis_without_modes_has_no_spread():
    assert basis_figures(np.zeros((9, 3, 0)))["spread per vertex"] == 0.0


def test_share_outside_counts_values_that_are_no_colours():
    arrays = little_arrays()
    grey = replace(arrays, mean_reflectance=np.full_like(arrays.mean_reflectance, 0.5))
    assert share_outside(FaceModel(grey)) < 0.01
    white = replace(grey, mean_reflectance=np.ones_like(arrays.mean_reflectance))
    assert share_outside(FaceModel(white)) == pytest.approx(0.5, abs=0.05)


def test_report_says_sizes_units_licence_and_variance():
    text = "\n".join(report_lines(FaceModel(little_arrays(side=17), "abc123")))
    for part in (
        "little 0, digest abc123",
        "licence: CC0-1.0",
        "units: mm",
        "289 vertices, 512 triangles",
        "coarse mesh of 81 vertices",
        "shape 5, expression 4, reflectance 3",
        "first 1/5 modes hold",
        "top ",
        "named face units: 2 (smile, blink)",
    ):
        assert part in text, part


def test_report_of_a_model_without_expressions_or_regions():
    arrays = little_arrays()
    bare = replace(
        arrays,
        expression_basis=arrays.expression_basis[..., :0],
        regions={},
        uv=None,
        unit_names=(),
        units_expression=None,
    )
    text = "\n".join(report_lines(FaceModel(bare)))
    assert "expression: no modes" in text and "regions: none" in text and "no coarse mesh" in text


def test_long_licences_are_shortened_to_a_line():
    text = shortened("You may not. " * 100)
    assert len(text) <= 160 and "whole text in the file" in text and shortened("") == "not stated"
