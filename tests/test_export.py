"""Mesh files, read back by two readers that share nothing with the writer: pygltflib and trimesh."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import trimesh

from mofaface.export import Mesh, linear_from_srgb, write_mesh

# A subject's right eye to the viewer's left: x < 0. Seen from +z the triangles run counter-clockwise.
VERTICES = np.array([[-90.0, -100.0, 0.0], [90.0, -100.0, 0.0], [90.0, 120.0, 0.0], [-90.0, 120.0, 10.0]])
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])
COLOURS = np.array([[0.0, 0.5, 1.0], [0.03, 0.2, 0.8], [0.9, 0.7, 0.6], [1.2, -0.1, 0.25]])
UV = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.75]])
MESH = Mesh(VERTICES, TRIANGLES, COLOURS, UV)
DTYPES = {5126: "<f4", 5125: "<u4", 5123: "<u2"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


def read_glb(path: Path) -> tuple[pygltflib.GLTF2, dict[str, np.ndarray]]:
    """The description and the arrays of the only primitive, through pygltflib."""
    file = pygltflib.GLTF2().load_binary(str(path))
    primitive = file.meshes[0].primitives[0]
    accessors = {name: i for name, i in vars(primitive.attributes).items() if i is not None}
    arrays = {}
    for name, i in (accessors | {"indices": primitive.indices}).items():
        accessor = file.accessors[i]
        view = file.bufferViews[accessor.bufferView]
        start = (view.byteOffset or 0) + (accessor.byteOffset or 0)
        data = file.binary_blob()[start : start + view.byteLength]
        arrays[name] = np.frombuffer(data, DTYPES[accessor.componentType]).reshape(-1, WIDTHS[accessor.type])
    return file, arrays


def test_a_glb_is_in_metres_with_y_up_and_the_face_towards_z(tmp_path: Path) -> None:
    _, arrays = read_glb(write_mesh(tmp_path / "face.glb", MESH))
    np.testing.assert_allclose(arrays["POSITION"], VERTICES / 1000.0, rtol=1e-6)
    assert (arrays["indices"].reshape(-1, 3) == TRIANGLES).all()
    corners = arrays["POSITION"][arrays["indices"].reshape(-1, 3)]
    assert (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0).all()
    assert (arrays["NORMAL"][:, 2] > 0.9).all()


def test_a_glb_shows_the_colours_that_were_given(tmp_path: Path) -> None:
    file, arrays = read_glb(write_mesh(tmp_path / "face.glb", MESH))
    assert file.accessors[file.meshes[0].primitives[0].attributes.COLOR_0].normalized
    linear = arrays["COLOR_0"][:, :3] / 65535.0
    # What a viewer does to show linear light on a screen, by the standard's other direction.
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(shown, np.clip(COLOURS, 0.0, 1.0), atol=1e-3)
    assert (arrays["COLOR_0"][:, 3] == 65535).all()


def test_a_glb_has_texture_coordinates_with_v_down(tmp_path: Path) -> None:
    _, arrays = read_glb(write_mesh(tmp_path / "face.glb", MESH))
    np.testing.assert_allclose(arrays["TEXCOORD_0"], UV * (1, -1) + (0, 1), atol=1e-7)
    _, plain = read_glb(write_mesh(tmp_path / "plain.glb", Mesh(VERTICES, TRIANGLES, COLOURS)))
    assert "TEXCOORD_0" not in plain


def test_a_glb_keeps_the_rules_of_the_format(tmp_path: Path) -> None:
    content = write_mesh(tmp_path / "face.glb", MESH).read_bytes()
    magic, version, length, json_length = struct.unpack("<4sIII", content[:16])
    assert (magic, version, length) == (b"glTF", 2, len(content))
    description = json.loads(content[20 : 20 + json_length])
    assert json_length % 4 == 0 and description["buffers"][0]["byteLength"] % 4 == 0
    for view in description["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
    position = description["accessors"][description["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    np.testing.assert_allclose(position["min"], VERTICES.min(0) / 1000.0, rtol=1e-6)
    np.testing.assert_allclose(position["max"], VERTICES.max(0) / 1000.0, rtol=1e-6)


def test_a_glb_is_lit_unless_its_colours_hold_the_light(tmp_path: Path) -> None:
    lit, _ = read_glb(write_mesh(tmp_path / "lit.glb", MESH))
    unlit, _ = read_glb(write_mesh(tmp_path / "unlit.glb", MESH, unlit=True))
    assert not lit.extensionsUsed and lit.materials[0].pbrMetallicRoughness.metallicFactor == 0
    assert unlit.extensionsUsed == ["KHR_materials_unlit"]
    assert "KHR_materials_unlit" in unlit.materials[0].extensions


@pytest.mark.parametrize("count", [65534, 65536])
def test_large_meshes_keep_their_indices(tmp_path: Path, count: int) -> None:
    vertices = np.random.default_rng(0).normal(size=(count, 3))
    triangles = np.array([[0, 1, 2], [count - 3, count - 2, count - 1]])
    _, arrays = read_glb(write_mesh(tmp_path / "large.glb", Mesh(vertices, triangles, np.abs(vertices))))
    assert (arrays["indices"].reshape(-1, 3) == triangles).all()
    assert arrays["NORMAL"].shape == (count, 3)
    np.testing.assert_allclose(np.linalg.norm(arrays["NORMAL"], axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
@pytest.mark.parametrize("uv", [UV, None], ids=["uv", "plain"])
def test_trimesh_reads_the_same_mesh(tmp_path: Path, suffix: str, uv: np.ndarray | None) -> None:
    path = write_mesh(tmp_path / f"face.{suffix}", Mesh(VERTICES, TRIANGLES, COLOURS, uv))
    read = trimesh.load_mesh(path, process=False, maintain_order=True)
    scale = 0.001 if suffix == "glb" else 1.0
    np.testing.assert_allclose(read.vertices, VERTICES * scale, atol=1e-5 * scale, rtol=1e-6)
    assert (read.faces == TRIANGLES).all()
    np.testing.assert_allclose(read.vertex_normals, MESH.normals, atol=0.01)  # it weights by angle


def test_a_ply_has_srgb_colours_and_texture_coordinates(tmp_path: Path) -> None:
    content = write_mesh(tmp_path / "face.ply", MESH).read_bytes()
    data = trimesh.exchange.ply.load_ply(io.BytesIO(content))["metadata"]["_ply_raw"]["vertex"]["data"]
    normals = np.stack([data[name] for name in ("nx", "ny", "nz")], -1).reshape(-1, 3)
    np.testing.assert_allclose(normals, MESH.normals, atol=1e-6)
    np.testing.assert_allclose(np.stack([data["s"], data["t"]], -1).reshape(-1, 2), UV, atol=1e-6)
    read = np.stack([data[name] for name in ("red", "green", "blue")], -1).reshape(-1, 3)
    np.testing.assert_allclose(read / 255.0, np.clip(COLOURS, 0.0, 1.0), atol=0.51 / 255)


def test_an_obj_has_srgb_colours_and_texture_coordinates(tmp_path: Path) -> None:
    lines = write_mesh(tmp_path / "face.obj", MESH).read_text().splitlines()
    vertices = np.array([line.split()[1:] for line in lines if line.startswith("v ")], dtype=float)
    np.testing.assert_allclose(vertices, np.concatenate([VERTICES, np.clip(COLOURS, 0, 1)], 1), atol=1e-4)
    texture = np.array([line.split()[1:] for line in lines if line.startswith("vt ")], dtype=float)
    np.testing.assert_allclose(texture, UV)
    assert "f 1/1/1 2/2/2 3/3/3" in lines


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
def test_every_file_states_its_convention_and_version(tmp_path: Path, suffix: str) -> None:
    content = write_mesh(tmp_path / f"face.{suffix}", MESH).read_bytes()
    assert b"mofaface-mesh version 1" in content and b"+y up, +z out of the face" in content
    assert (b"metres;" if suffix == "glb" else b"millimetres;") in content


def test_linear_light_follows_the_standard() -> None:
    np.testing.assert_allclose(
        linear_from_srgb(np.array([0.0, 0.04045, 0.5, 1.0])), [0, 0.0031308, 0.2140411, 1], atol=1e-6
    )


def test_bad_meshes_and_unknown_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="change its ending"):
        write_mesh(tmp_path / "face.stl", MESH)
    with pytest.raises(ValueError, match="finite"):
        write_mesh(tmp_path / "face.ply", Mesh(VERTICES * np.nan, TRIANGLES, COLOURS))
    with pytest.raises(ValueError, match="0 to 3"):
        write_mesh(tmp_path / "face.obj", Mesh(VERTICES, TRIANGLES + 1, COLOURS))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_mesh(tmp_path / "face.glb", MESH)
    assert list(tmp_path.iterdir()) == []
