"""Scans from files, against an independent reader and by hand."""

import numpy as np
import pytest
import trimesh
from test_surface import grid

from mofaface.evaluation.mesh_files import read_scan


@pytest.mark.parametrize("name, options", [("a.obj", {}), ("a.ply", {"encoding": "ascii"}), ("a.ply", {})])
def test_meshes_that_trimesh_writes_are_read(tmp_path, name, options):
    surface = grid()
    mesh = trimesh.Trimesh(surface.positions, surface.triangles, process=False)
    mesh.visual.vertex_colors = np.random.default_rng(0).integers(0, 255, (64, 4)).astype(np.uint8)
    (tmp_path / name).write_bytes(_bytes(mesh.export(file_type=name[2:], **options)))
    found = read_scan(tmp_path / name)
    np.testing.assert_allclose(found.positions, surface.positions, atol=1e-6)
    np.testing.assert_array_equal(found.triangles, surface.triangles)


def test_units_become_millimetres(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 0.1 0 0\nv 0 0.2 0\nf 1 2 3\n")
    assert read_scan(tmp_path / "a.obj", "m").positions[2].tolist() == [0, 200, 0]
    assert read_scan(tmp_path / "a.obj", "cm").positions[1].tolist() == [1, 0, 0]


def test_polygons_normals_colours_and_negative_numbers_of_an_obj(tmp_path):
    lines = [
        "# a",
        "v 0 0 0 0.5 0.5 0.5",
        "v 1 0 0 1 1 1",
        "v 1 1 0 0 0 0",
        "v 0 1 0 0 0 0",
        "vt 0 0",
        "vn 0 0 1",
    ]
    (tmp_path / "a.obj").write_text("\n".join([*lines, "f 1/1/1 2/1/1 3/1/1 4/1/1", "f -4//1 -3//1 -1//1"]))
    found = read_scan(tmp_path / "a.obj")
    assert found.positions.shape == (4, 3)
    assert found.triangles.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 3]]


def test_big_endian_ply_with_other_properties(tmp_path):
    head = (
        "ply\nformat binary_big_endian 1.0\ncomment made by hand\nelement vertex 3\nproperty uchar quality\n"
        "property double x\nproperty double y\nproperty double z\nelement face 1\nproperty list uchar int vertex_indices\n"
        "property float area\nend_header\n"
    )
    kind = np.dtype([("q", "u1"), ("x", ">f8"), ("y", ">f8"), ("z", ">f8")])
    vertices = np.array([(9, 0, 0, 0), (9, 5, 0, 0), (9, 0, 6, 7)], kind)
    body = b"\x03" + np.array([0, 1, 2], ">i4").tobytes() + np.array([1.5], ">f4").tobytes()
    (tmp_path / "a.ply").write_bytes(head.encode() + vertices.tobytes() + body)
    found = read_scan(tmp_path / "a.ply")
    assert found.positions.tolist() == [[0, 0, 0], [5, 0, 0], [0, 6, 7]]
    assert found.triangles.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("a.stl", "solid", "read as .obj or .ply"),
        ("a.ply", "no mesh", "not a readable ply mesh"),
        (
            "a.ply",
            "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nend_header\n0\n",
            "not a readable ply",
        ),
        ("a.obj", "v 0 0 zero\n", "not a readable obj mesh"),
        ("a.obj", "v 0 0 0\n", "must have triangles"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "name its 3 vertices"),
        ("a.obj", "v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "no numbers"),
    ],
)
def test_other_files_are_refused_with_a_sentence(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=says):
        read_scan(tmp_path / name)


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
