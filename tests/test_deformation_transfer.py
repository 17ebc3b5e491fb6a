"""Deformation transfer: exact cases, and a dense twin with Sumner and Popović's own unknowns."""

import numpy as np
import pytest
from little_face import grid_triangles, little_arrays
from scipy.spatial.transform import Rotation

from mofaface.face_models.deformation_transfer import (
    Transfer,
    TransferConfig,
    deformation_gradients,
    gradient_operator,
    mesh_parts,
    triangle_areas,
    triangle_frames,
)

GRADIENTS_ONLY = TransferConfig(place_mm=0.0)
SIDE = 9


def face() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rest positions, a strong expression of them (mm) and the triangles."""
    arrays = little_arrays(SIDE)
    rest = arrays.mean_shape.astype(np.float64)
    return rest, rest + 3 * arrays.expression_basis[..., 0], arrays.triangles


def bent(rest: np.ndarray) -> np.ndarray:
    """Another person on the same mesh."""
    x, y, z = (rest / 80).T
    return rest * [1.1, 0.9, 1.2] + 6 * np.stack([np.sin(2 * y), np.cos(3 * x), np.sin(2 * x + y)], axis=1)


def sumner(target, source, deformed, triangles, pinned):
    """Equation 8 of the paper as written, dense: vertices and one fourth vertex per triangle are unknown."""
    vertices, faces = len(target), len(triangles)
    frames = triangle_frames(target, triangles)
    wanted = deformation_gradients(source, deformed, triangles)
    root = np.sqrt(triangle_areas(target, triangles))
    system, right = np.zeros((3 * faces, vertices + faces)), np.zeros((3 * faces, 3))
    for t, (a, b, c) in enumerate(triangles):
        inverse = np.linalg.inv(frames[t])  # T = Ṽ V⁻¹, column j of Ṽ is x̃_j − x̃_a
        for j, vertex in enumerate((b, c, vertices + t)):
            system[3 * t : 3 * t + 3, vertex] += inverse[j] * root[t]
            system[3 * t : 3 * t + 3, a] -= inverse[j] * root[t]
        right[3 * t : 3 * t + 3] = wanted[t].T * root[t]
    free = np.setdiff1d(np.arange(vertices + faces), pinned)
    right = right - system[:, pinned] @ target[pinned]
    solved = np.linalg.lstsq(system[:, free], right, rcond=None)[0]
    full = np.zeros((vertices + faces, 3))
    full[free], full[pinned] = solved, target[pinned]
    return full[:vertices]


def test_fourth_vertex_stands_on_the_triangle_at_the_root_of_twice_its_area():
    rest, _, triangles = face()
    frames = triangle_frames(rest, triangles)
    assert np.allclose(np.einsum("tij,ti->tj", frames[:, :, :2], frames[:, :, 2]), 0, atol=1e-9)
    assert np.allclose((frames[:, :, 2] ** 2).sum(axis=1), 2 * triangle_areas(rest, triangles))


def test_gradients_of_an_affine_map_are_its_matrix_in_the_plane_and_of_a_rotation_everywhere():
    rest, _, triangles = face()
    turn = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()
    assert np.allclose(deformation_gradients(rest, rest @ turn.T + 5, triangles), turn)
    matrix = np.array([[1.2, 0.1, 0], [0, 0.8, 0.2], [0.1, 0, 1]])
    gradient = (gradient_operator(rest, triangles) @ (rest @ matrix.T)).reshape(-1, 3, 3)
    edge = rest[triangles[:, 1]] - rest[triangles[:, 0]]
    assert np.allclose(np.einsum("tji,tj->ti", gradient, edge), edge @ matrix.T)


@pytest.mark.parametrize("config", [GRADIENTS_ONLY, TransferConfig()])
def test_transfer_to_the_same_mesh_reproduces_the_source_exactly(config):
    rest, deformed, triangles = face()
    transfer = Transfer(rest, triangles, rest, config=config)
    assert np.allclose(transfer.displacements(deformed), deformed - rest, atol=1e-8)


@pytest.mark.parametrize("config", [GRADIENTS_ONLY, TransferConfig()])
def test_a_turned_and_scaled_copy_gets_turned_and_scaled_displacements(config):
    rest, deformed, triangles = face()
    turn, scale = Rotation.from_rotvec([0.4, 0.9, -0.3]).as_matrix(), 1.7
    target = scale * rest @ turn.T + [10.0, -20, 5]
    transfer = Transfer(target, triangles, rest, rotation=turn, scale=scale, config=config)
    assert np.allclose(transfer.displacements(deformed), scale * (deformed - rest) @ turn.T, atol=1e-8)


def test_a_rotation_of_the_source_turns_another_mesh_by_as_much():
    rest, _, triangles = face()
    target, turn = bent(rest), Rotation.from_rotvec([0.2, 0.1, -0.4]).as_matrix()
    moved = Transfer(target, triangles, rest, config=GRADIENTS_ONLY).displacements(rest @ turn.T)
    assert np.ptp(target + moved - target @ turn.T, axis=0).max() < 1e-8


def test_an_affine_deformation_is_transferred_exactly_between_flat_meshes():
    triangles = grid_triangles(5)
    v, u = (a.ravel() for a in np.meshgrid(*[np.linspace(-30, 30, 5)] * 2, indexing="ij"))
    flat = np.stack([u, v, 0 * u], axis=1)
    target = np.stack([1.3 * u + 2 * np.sin(v), v + np.cos(u), 0 * u], axis=1)
    matrix = np.array([[1.2, 0.3, 0], [-0.1, 0.9, 0], [0.2, 0.4, 1]])
    moved = Transfer(target, triangles, flat, config=GRADIENTS_ONLY).displacements(flat @ matrix.T)
    wanted = target @ matrix.T - target
    assert np.ptp(moved - wanted, axis=0).max() < 1e-9


def test_transfer_solves_sumners_system_with_its_fourth_vertices():
    rest, deformed, triangles = face()
    target, pinned = bent(rest), np.array([0, 1, SIDE])
    transfer = Transfer(target, triangles, rest, fixed=pinned, config=GRADIENTS_ONLY)
    plain = sumner(target, rest, deformed, triangles, pinned)
    assert np.abs(plain - target).max() > 3
    assert np.allclose(target + transfer.displacements(deformed), plain, atol=1e-7)


def test_fixed_vertices_stay():
    rest, deformed, triangles = face()
    fixed = np.arange(SIDE)
    moved = Transfer(rest, triangles, rest, fixed=fixed).displacements(deformed)
    assert np.abs(moved[fixed]).max() == 0 and np.abs(moved).max() > 1


def test_beyond_the_source_the_target_follows_smoothly_and_fades_to_rest():
    rest, _, triangles = face()
    found = np.arange(len(rest)) // SIDE < 5
    turn = Rotation.from_rotvec([0.3, 0, 0]).as_matrix()
    transfer = Transfer(rest, triangles, rest, found=found, config=TransferConfig(place_mm=0, fade_mm=15.0))
    moved = transfer.displacements(rest @ turn.T)
    angle = np.linalg.norm(deformation_gradients(rest, rest + moved, triangles) - np.eye(3), axis=(1, 2))
    rows = [angle[(triangles // SIDE).min(axis=1) == row].mean() for row in range(SIDE - 1)]
    assert rows[0] > 0.3 and all(rows[i + 1] < rows[i] for i in range(3, SIDE - 2)) and rows[-1] < 0.2


def test_a_component_of_its_own_follows_the_sources_mean():
    rest, deformed, triangles = face()
    two, both = np.concatenate([rest, rest + 300]), np.concatenate([triangles, triangles + len(rest)])
    moved = np.concatenate([deformed, rest + 300 + [0.0, 0, 7]])
    assert mesh_parts(len(two), both).max() == 1
    result = Transfer(two, both, two, config=GRADIENTS_ONLY).displacements(moved)
    assert np.allclose(result, moved - two, atol=1e-8)


def test_a_loose_vertex_is_refused_with_a_way_out():
    rest, _, triangles = face()
    loose = np.concatenate([rest, [[0.0, 0, 0], [1, 1, 1]]])
    both = np.concatenate([triangles, [[81, 81, 82]]])
    with pytest.raises(ValueError, match="remove them or fix them"):
        Transfer(loose, both, loose, config=GRADIENTS_ONLY)
