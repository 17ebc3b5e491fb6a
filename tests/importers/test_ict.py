"""ICT-FaceKit: a written folder, and the real thing where it is at hand."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from importers.files import MEAN, TRIANGLES, N, code, vertices
from mofaface.face_models.importers import ModelFileError, read_model

REAL = Path(__file__).parents[2].parent / "shared/data/ict_facekit"
real = pytest.mark.skipif(not REAL.exists(), reason="ICT-FaceKit is not at hand")


def write_obj(path, positions):
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in positions]
    lines += [f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in TRIANGLES + 1]
    content = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content)


def test_a_folder_gives_identities_and_named_expressions_in_millimetres(tmp_path):
    random = np.random.default_rng(0)
    offsets = {name: 0.1 * random.normal(size=(N, 3)) for name in ("identity000", "identity001", "jawOpen")}
    write_obj(tmp_path / "generic_neutral_mesh.obj", MEAN / 10)
    for name, offset in offsets.items():
        write_obj(tmp_path / (name + (".obj.gz" if name == "jawOpen" else ".obj")), MEAN / 10 + offset)
    (tmp_path / "vertex_indices.json").write_text(json.dumps({"idx_to_landmark_verts": list(range(68))}))
    raw = read_model("ict", [tmp_path])
    alpha, delta = code(2, 0), code(1, 1)
    moved = (
        alpha[0] * offsets["identity000"]
        + alpha[1] * offsets["identity001"]
        + 0.15 * delta[0] * offsets["jawOpen"]
    )
    np.testing.assert_allclose(vertices(raw, alpha, delta), MEAN + 10 * moved, atol=1e-4)
    assert raw.unit_names == ("jawOpen",)
    np.testing.assert_allclose(raw.expression_basis @ raw.units[0], 10 * offsets["jawOpen"], atol=1e-4)
    np.testing.assert_array_equal(raw.landmarks_68, np.arange(68))


def test_another_folder_is_told_apart(tmp_path):
    with pytest.raises(ModelFileError, match=r"holds generic_neutral_mesh\.obj"):
        read_model("ict", [tmp_path])
    with pytest.raises(ModelFileError, match="there is none at"):
        read_model("ict", [tmp_path / "nowhere"])


@real
def test_the_real_npz_has_its_sizes_and_a_face_of_human_size():
    raw = read_model("ict", [REAL])
    assert (raw.shape_basis.shape[-1], raw.expression_basis.shape[-1], raw.mean_reflectance) == (
        100,
        57,
        None,
    )
    left, right = raw.mean_shape[raw.landmarks_68[[45, 36]]]
    assert left[0] > right[0]
    assert 80 < np.linalg.norm(left - right) < 100
    nose = raw.mean_shape[raw.landmarks_68[30]]
    assert nose[2] > raw.mean_shape[raw.landmarks_68[8]][2]


@real
def test_the_real_folder_agrees_with_the_npz():
    folder, packed = read_model("ict", [REAL / "raw"]), read_model("ict", [REAL])
    np.testing.assert_allclose(folder.mean_shape, packed.mean_shape, atol=1e-3)
    np.testing.assert_array_equal(folder.landmarks_68, packed.landmarks_68)
    np.testing.assert_allclose(folder.shape_basis[..., 0], packed.shape_basis[..., 0], atol=0.02)
