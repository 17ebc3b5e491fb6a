"""Expression bases from blendshapes on other topologies: readers, transfer, modes, and the command."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from little_face import grid_triangles, little_arrays
from scipy.sparse import csr_array

from mofaface.commands_expression import ModelBuildExpression
from mofaface.face_model import SparseMatrix
from mofaface.face_models import OPEN_MODEL
from mofaface.face_models.blendshape_sets import (
    BlendshapeError,
    BlendshapeSet,
    Sampling,
    fan,
    read_landmarks,
    read_obj,
    read_set,
)
from mofaface.face_models.build_expression import (
    CageProjection,
    ExpressionBuildConfig,
    build_expression,
    move_small_parts_rigidly,
    own_shapes,
    similarity,
)
from mofaface.face_models.container import read_arrays, write_face_model

ICT = Path(__file__).parents[1].parent / "shared/data/ict_facekit/ict_face_and_eyes.npz"
NAMES = ("smile_L", "smile_R", "jaw")


def base():
    return replace(little_arrays(), mirror=None, unit_names=(), units_expression=None)


def same_topology_set() -> BlendshapeSet:
    """Three smooth shapes on the little face's own mesh."""
    arrays = little_arrays(seed=3)
    shapes = np.moveaxis(arrays.expression_basis[..., :3], -1, 0).astype(np.float64)
    return BlendshapeSet("mine", arrays.mean_shape.astype(np.float64), shapes, NAMES, arrays.triangles)


def write_obj(path: Path, points: np.ndarray, polygons: str) -> None:
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in points]
    text = "\n".join([*lines, polygons])
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write_folder(folder: Path, found: BlendshapeSet, scale: float = 1.0) -> Path:
    folder.mkdir()
    faces = "\n".join("f " + " ".join(f"{i + 1}/{i + 1}" for i in t) for t in found.triangles)
    write_obj(folder / "neutral.obj", scale * found.neutral, faces)
    for name, shape in zip(found.names, found.displacements, strict=True):
        write_obj(folder / f"{name}.obj.gz", scale * (found.neutral + shape), faces)
    return folder


def test_a_set_on_the_same_mesh_is_kept_exactly_and_the_modes_hold_all_of_it():
    found = same_topology_set()
    built = build_expression(base(), [found])
    units = np.einsum("km,vcm->kvc", built.units_expression, built.expression_basis)
    assert built.unit_names == NAMES and built.expression_basis.shape[-1] == 3
    assert np.allclose(units, found.displacements, atol=1e-4)
    assert "100.00%" in built.notes


def test_modes_are_orthogonal_and_their_spread_is_the_one_asked_for():
    built = build_expression(base(), [same_topology_set()], ExpressionBuildConfig(spread_mm=2.0))
    flat = built.expression_basis.reshape(-1, 3).astype(np.float64)
    gram = flat.T @ flat
    assert np.allclose(gram, np.diag(np.diag(gram)), atol=1e-3)
    assert np.sqrt(np.trace(gram) / len(built.mean_shape)) == pytest.approx(2.0, rel=1e-4)


def test_without_a_spread_the_modes_hold_the_shapes_second_moment():
    found = same_topology_set()
    built = build_expression(base(), [found], ExpressionBuildConfig(spread_mm=None))
    flat, shapes = built.expression_basis.reshape(-1, 3), found.displacements.reshape(3, -1)
    assert np.allclose(flat @ flat.T, shapes.T @ shapes / 3, atol=1e-3)


def test_two_sets_and_the_models_own_units_join_and_fewer_modes_say_what_they_keep():
    other = replace(same_topology_set(), name="other")
    model = replace(little_arrays(), mirror=None)
    config = ExpressionBuildConfig(modes=2, own=True)
    built = build_expression(model, [same_topology_set(), other], config)
    assert built.unit_names == ("smile", "blink", *NAMES, *(f"other/{n}" for n in NAMES))
    assert built.expression_basis.shape[-1] == 2 and "2 modes keep" in built.notes
    assert "100.00%" not in built.notes


def test_another_topology_by_correspondence_gives_the_same_motion_in_the_models_scale():
    """The set is the model's face at half size, each quad cut along its other diagonal, in another vertex order."""
    found, arrays = same_topology_set(), base()
    order = np.random.default_rng(0).permutation(len(found.neutral))
    place = np.argsort(order)
    flipped = place[grid_triangles(9).reshape(2, -1, 3)[:, :, [1, 2, 0]].reshape(-1, 3)]
    rows = place[:, None].repeat(3, axis=1)
    sampling = Sampling(rows, np.tile([1.0, 0, 0], (len(order), 1)), np.ones(len(order), bool))
    scaled = BlendshapeSet(
        "half",
        0.5 * found.neutral[order],
        0.5 * found.displacements[:, order],
        NAMES,
        flipped,
        sampling=sampling,
    )
    built = build_expression(arrays, [scaled])
    units = np.einsum("km,vcm->kvc", built.units_expression, built.expression_basis)
    assert np.allclose(units, found.displacements, atol=1e-3)


def test_modes_of_a_symmetric_model_are_even_or_odd():
    built = build_expression(replace(base(), mirror=little_arrays().mirror), [same_topology_set()])
    opposite = built.expression_basis[built.mirror] * np.array([-1, 1, 1])[None, :, None]
    same = np.abs(opposite - built.expression_basis).max((0, 1)) < 1e-4
    turned = np.abs(opposite + built.expression_basis).max((0, 1)) < 1e-4
    assert (same ^ turned).all() and same.any() and turned.any()


def test_cage_projection_finds_the_cage_of_a_subdivided_field():
    rng = np.random.default_rng(0)
    weights = csr_array(np.abs(rng.standard_normal((81, 20))))
    sparse = SparseMatrix(weights.indptr, weights.indices, weights.data, 20)
    cage = rng.standard_normal((4, 20, 3))
    arrays = replace(
        base(), subdivision=sparse, mean_shape=np.zeros((20, 3), np.float32),
        shape_basis=np.zeros((20, 3, 1), np.float32), expression_basis=np.zeros((20, 3, 1), np.float32),
    )  # fmt: skip
    project = CageProjection(arrays)
    assert np.allclose(project(project.surface(cage)), cage, atol=1e-5)


def test_similarity_recovers_scale_and_rotation():
    points = np.random.default_rng(1).standard_normal((30, 3))
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    scale, rotation = similarity(points, 2.5 * points @ turn.T + 7)
    assert scale == pytest.approx(2.5) and np.allclose(rotation, turn)


def test_eyeballs_keep_their_shape():
    rng, mean = np.random.default_rng(0), rng_points()
    triangles = np.concatenate([grid_triangles(5), grid_triangles(3) + 25])
    moved = move_small_parts_rigidly(rng.standard_normal((2, 34, 3)), mean, triangles)
    axis = np.linalg.lstsq(_cross_columns(mean[25:]), moved[0, 25:].ravel(), rcond=None)[0]
    assert np.allclose(_cross_columns(mean[25:]) @ axis, moved[0, 25:].ravel())


def rng_points() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((34, 3))


def _cross_columns(points: np.ndarray) -> np.ndarray:
    """Displacements by each axis of rotation and shift."""
    fields = [np.cross(a, points) for a in np.eye(3)] + [np.broadcast_to(a, points.shape) for a in np.eye(3)]
    return np.stack([f.ravel() for f in fields], axis=1)


def test_a_folder_of_obj_files_is_read_in_its_unit_with_landmarks_beside_it(tmp_path):
    found = same_topology_set()
    folder = write_folder(tmp_path / "set", found, scale=0.1)
    (folder / "landmarks_68.json").write_text(json.dumps(list(range(67)) + [-1]))
    read = read_set(folder, "cm")
    assert read.names == ("jaw", "smileLeft", "smileRight")
    assert np.allclose(read.neutral, found.neutral, atol=1e-4)
    assert np.allclose(read.displacements[1], found.displacements[0], atol=1e-4)
    assert (read.triangles == found.triangles).all() and read.landmarks_68[-1] == -1


def test_an_icts_folder_is_read_in_centimetres_without_its_identities(tmp_path):
    found = same_topology_set()
    folder = write_folder(tmp_path / "ict", found, scale=0.1)
    (folder / "neutral.obj").rename(folder / "generic_neutral_mesh.obj")
    (folder / "jaw.obj.gz").rename(folder / "identity000.obj.gz")
    (folder / "vertex_indices.json").write_text(json.dumps({"idx_to_landmark_verts": list(range(68))}))
    read = read_set(folder)
    assert read.names == ("smileLeft", "smileRight")
    assert np.allclose(read.neutral, found.neutral, atol=1e-4)


def test_an_npz_holds_positions_or_displacements_and_padded_polygons(tmp_path):
    found = same_topology_set()
    quad = np.concatenate([found.triangles, np.full((len(found.triangles), 1), -1)], axis=1)
    parts = {"neutral": found.neutral, "names": np.array(NAMES), "polygons": quad}
    np.savez(tmp_path / "a.npz", shapes=found.neutral + found.displacements, **parts)
    np.savez(tmp_path / "b.npz", displacements=found.displacements, **parts)
    a, b = (read_set(tmp_path / f"{n}.npz", "m") for n in "ab")
    assert np.allclose(a.displacements, 1000 * found.displacements) and np.allclose(
        a.displacements, b.displacements
    )
    assert (a.triangles == found.triangles).all()


def test_polygons_become_fans_and_wavefront_counts_from_the_end(tmp_path):
    assert fan(np.array([[0, 1, 2, 3], [4, 5, 6, -1]])).tolist() == [[0, 1, 2], [4, 5, 6], [0, 2, 3]]
    write_obj(tmp_path / "q.obj", np.eye(3), "f -3 -2 -1\nf 1//4 2//4 3//4")
    assert read_obj(tmp_path / "q.obj")[1].tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": np.array(["one"])}, "each with a name"),
        ({"triangles": np.array([[0, 1, 999]])}, "names vertex 999"),
        ({"displacements": np.full((3, 81, 3), np.nan)}, "export it again"),
    ],
)
def test_a_set_that_does_not_fit_together_is_refused(tmp_path, change, message):
    found = same_topology_set()
    parts = {
        "neutral": found.neutral, "displacements": found.displacements, "triangles": found.triangles,
        "names": np.array(NAMES),
    }  # fmt: skip
    np.savez(tmp_path / "x.npz", **(parts | change))
    with pytest.raises(BlendshapeError, match=message):
        read_set(tmp_path / "x.npz")


def test_wrong_files_are_refused_with_a_sentence(tmp_path):
    with pytest.raises(BlendshapeError, match="neither"):
        read_set(tmp_path / "none")
    with pytest.raises(BlendshapeError, match=r"neutral\.obj"):
        read_set(tmp_path)
    (tmp_path / "short.txt").write_text("1 2 3")
    with pytest.raises(BlendshapeError, match="68 vertex numbers"):
        read_landmarks(tmp_path / "short.txt")
    np.savez(tmp_path / "bad.npz", neutral=np.zeros((3, 3)))
    with pytest.raises(BlendshapeError, match="names, shapes or displacements"):
        read_set(tmp_path / "bad.npz")


def test_another_topology_without_landmarks_says_what_to_give():
    found = same_topology_set()
    other = replace(found, triangles=found.triangles[:-1])
    with pytest.raises(BlendshapeError, match="neither"):
        build_expression(base(), [other])


def test_a_correspondence_for_another_file_is_refused():
    found = same_topology_set()
    rows = np.random.default_rng(0).permutation(81)[:, None].repeat(3, axis=1)
    mixed = Sampling(rows, np.tile([1.0, 0, 0], (81, 1)), np.ones(81, bool))
    with pytest.raises(BlendshapeError, match="mixes them up"):
        build_expression(base(), [replace(found, triangles=found.triangles[:-1], sampling=mixed)])


def test_the_command_writes_a_model_with_the_new_expressions(tmp_path):
    write_face_model(tmp_path / "base.safetensors", base())
    folder = write_folder(tmp_path / "set", same_topology_set())
    rows = np.arange(81)
    np.savez(folder / "correspondence.npz", vertex=rows)
    out = tmp_path / "out.safetensors"
    command = ModelBuildExpression((folder,), out, str(tmp_path / "base.safetensors"), modes=2)
    assert command.run() == 0
    built, _ = read_arrays(out)
    assert built.unit_names == ("jaw", "smileLeft", "smileRight") and built.expression_basis.shape[-1] == 2


def test_the_command_refuses_landmarks_for_some_sets_only(tmp_path):
    command = ModelBuildExpression((tmp_path, tmp_path), landmarks=(tmp_path / "a.txt",))
    with pytest.raises(ValueError, match="once per set"):
        command.run()


@pytest.mark.skipif(not (ICT.exists() and OPEN_MODEL.is_file()), reason="ICT-FaceKit is not here")
def test_icts_expressions_reach_the_open_model_in_kind_and_size():
    """On the coarse mesh and by landmarks' registration with few steps, so that it takes seconds."""
    from mofaface.face_models.open_model.expression_transfer import coarse_pair, measure_pair

    full, found, match = coarse_pair(read_arrays(OPEN_MODEL)[0], read_set(ICT), ("jawOpen", "mouthSmileLeft"))
    figures, _ = measure_pair(full, found, match)
    for unit in figures:
        assert unit.cosine > 0.8 and 0.7 < unit.carried_mm / unit.own_mm < 1.4
        assert unit.round_trip_mm < 0.1 * unit.round_trip_of_mm


def test_own_shapes_of_a_model_without_units_are_its_modes():
    arrays = base()
    shapes = own_shapes(arrays)
    assert shapes.names == ("mode0", "mode1", "mode2", "mode3")
    assert np.allclose(shapes.fields[1], arrays.expression_basis[..., 1])
