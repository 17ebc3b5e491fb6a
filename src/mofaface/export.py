"""Meshes as files that other programs open: GLB (glTF 2.0), OBJ and PLY, format version 1.

All three keep the axes of model space, which are those of glTF: right-handed, +x to the subject's left,
+y up, +z out of the face; triangles counter-clockwise seen from outside; smooth normals.

| file | unit | vertex colour | texture coordinates |
|---|---|---|---|
| .glb | metre, as glTF demands | linear RGB, 16 bit; programs encode it as sRGB to show it | v down |
| .obj | millimetre | sRGB in [0, 1] after the coordinates | v up |
| .ply | millimetre | sRGB, 8 bit | v up, named s and t |

A GLB has a matt surface that the program lights, fit for reflectance; `unlit` shows the colours as they are
(KHR_materials_unlit), fit for colours under the photo's own light.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from mofaface.files import written_whole
from mofaface.mesh import vertex_normals

FORMAT = "mofaface-mesh version 1"
CONVENTION = (
    "{unit}; right-handed, +x to the subject's left, +y up, +z out of the face; "
    "triangles counter-clockwise from outside; colours {colour}"
)
SUFFIXES = (".glb", ".obj", ".ply")

# The numbers by which glTF names types and uses of buffers.
_COMPONENT = {np.dtype("<f4"): 5126, np.dtype("<u4"): 5125, np.dtype("<u2"): 5123}
_VERTICES, _INDICES = 34962, 34963


@dataclass(frozen=True)
class Mesh:
    """A coloured face in model space."""

    vertices: Float[np.ndarray, "vertices 3"]
    """Millimetres."""
    triangles: Int[np.ndarray, "faces 3"]
    """Counter-clockwise seen from outside."""
    colours: Float[np.ndarray, "vertices 3"]
    """RGB in [0, 1], encoded as sRGB like the photo."""
    uv: Float[np.ndarray, "vertices 2"] | None = None
    """Texture coordinates, v up."""

    @property
    def normals(self) -> Float[np.ndarray, "vertices 3"]:
        """Unit normals of the vertices; +z for a vertex without a surface, where formats allow no zero."""
        points = torch.from_numpy(self.vertices.astype(np.float64))
        normals = vertex_normals(points[None], torch.from_numpy(self.triangles.astype(np.int64)))[0].numpy()
        normals[~normals.any(1)] = (0.0, 0.0, 1.0)
        return normals


def write_mesh(path: str | Path, mesh: Mesh, unlit: bool = False) -> Path:
    """Write the mesh as .glb, .obj or .ply, by the path's ending; it appears only when complete."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"a mesh is written as {', '.join(SUFFIXES)}; got {path.name!r}: change its ending")
    _check(mesh)
    content = _glb(mesh, unlit) if suffix == ".glb" else _obj(mesh) if suffix == ".obj" else _ply(mesh)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
    return path


def linear_from_srgb(colours: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Linear light in [0, 1] of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def _check(mesh: Mesh) -> None:
    if not all(np.isfinite(part).all() for part in (mesh.vertices, mesh.colours)):
        raise ValueError(
            "a mesh has finite vertices and colours; this one has NaN or infinity: refit the face"
        )
    count, triangles = len(mesh.vertices), mesh.triangles
    if triangles.size == 0 or triangles.min() < 0 or triangles.max() >= count:
        raise ValueError(f"a mesh has triangles, and they name its vertices, 0 to {count - 1}; these do not")


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.round(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def _glb(mesh: Mesh, unlit: bool) -> bytes:
    # 8 bit would band in the shadows, where linear values lie close together. Alpha keeps rows aligned to 4.
    linear = linear_from_srgb(np.clip(mesh.colours.astype(np.float64), 0.0, 1.0))
    rgba = np.concatenate([linear, np.ones((len(linear), 1))], axis=1)
    index_type = "<u2" if len(mesh.vertices) < 65535 else "<u4"
    arrays = {
        "POSITION": (mesh.vertices / 1000.0).astype("<f4"),
        "NORMAL": mesh.normals.astype("<f4"),
        "COLOR_0": np.round(rgba * 65535.0).astype("<u2"),
    }
    if mesh.uv is not None:
        arrays["TEXCOORD_0"] = (mesh.uv * (1.0, -1.0) + (0.0, 1.0)).astype("<f4")
    arrays["indices"] = mesh.triangles.reshape(-1).astype(index_type)
    views, accessors, body = _pack(arrays)
    attributes = {name: i for i, name in enumerate(arrays) if name != "indices"}
    primitive = {"attributes": attributes, "indices": len(attributes), "material": 0, "mode": 4}
    description = {
        "asset": {
            "version": "2.0",
            "generator": "mofaface",
            "extras": {"format": FORMAT, "convention": CONVENTION.format(unit="metres", colour="linear RGB")},
        },
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "face", "mesh": 0}],
        "meshes": [{"name": "face", "primitives": [primitive]}],
        "materials": [_material(unlit)],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(body)}],
    }
    if unlit:
        description["extensionsUsed"] = ["KHR_materials_unlit"]
    return _container(json.dumps(description, separators=(",", ":")).encode(), body)


def _material(unlit: bool) -> dict[str, Any]:
    # A face is an open surface: seen from behind it would vanish if it had one side only.
    surface = {"baseColorFactor": [1, 1, 1, 1], "metallicFactor": 0, "roughnessFactor": 0.7}
    material = {"name": "skin", "pbrMetallicRoughness": surface, "doubleSided": True}
    return material | ({"extensions": {"KHR_materials_unlit": {}}} if unlit else {})


def _pack(arrays: dict[str, np.ndarray]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bytes]:
    """glTF's buffer views and accessors of the arrays, and their bytes, each padded to four."""
    views, accessors, body = [], [], b""
    for name, array in arrays.items():
        target = _INDICES if name == "indices" else _VERTICES
        views.append({"buffer": 0, "byteOffset": len(body), "byteLength": array.nbytes, "target": target})
        kind = "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}"
        accessor: dict[str, Any] = {"bufferView": len(views) - 1, "componentType": _COMPONENT[array.dtype]}
        accessor |= {"count": len(array), "type": kind}
        if name == "POSITION":
            accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        if name == "COLOR_0":
            accessor["normalized"] = True
        accessors.append(accessor)
        body += array.tobytes() + b"\0" * (-array.nbytes % 4)
    return views, accessors, body


def _container(description: bytes, body: bytes) -> bytes:
    """A GLB file: header, JSON chunk padded with spaces, binary chunk."""
    description += b" " * (-len(description) % 4)
    header = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(description) + 8 + len(body))
    chunks = struct.pack("<I4s", len(description), b"JSON") + description
    return header + chunks + struct.pack("<I4s", len(body), b"BIN\0") + body


def _obj(mesh: Mesh) -> bytes:
    lines = [f"# {FORMAT}", f"# {CONVENTION.format(unit='millimetres', colour='sRGB in [0, 1]')}", "o face"]
    lines += _rows("v %.5f %.5f %.5f %.4f %.4f %.4f", mesh.vertices, np.clip(mesh.colours, 0.0, 1.0))
    if mesh.uv is not None:
        lines += _rows("vt %.6f %.6f", mesh.uv)
    lines += _rows("vn %.5f %.5f %.5f", mesh.normals)
    corner = "%d//%d" if mesh.uv is None else "%d/%d/%d"
    repeated = np.repeat(
        mesh.triangles + 1, corner.count("%"), axis=1
    )  # place, texture and normal share a number
    lines += _rows(f"f {corner} {corner} {corner}", repeated)
    return "\n".join([*lines, ""]).encode()


def _rows(template: str, *columns: np.ndarray) -> Iterator[str]:
    return (template % tuple(row) for row in np.concatenate(columns, axis=1).tolist())


def _ply(mesh: Mesh) -> bytes:
    columns = {name: mesh.vertices[:, i] for i, name in enumerate("xyz")}
    columns |= {name: mesh.normals[:, i] for i, name in enumerate(("nx", "ny", "nz"))}
    if mesh.uv is not None:
        columns |= {name: mesh.uv[:, i] for i, name in enumerate("st")}
    colours = {name: _bytes(mesh.colours[:, i]) for i, name in enumerate(("red", "green", "blue"))}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {FORMAT}",
        f"comment {CONVENTION.format(unit='millimetres', colour='sRGB')}",
        f"element vertex {len(mesh.vertices)}",
        *(f"property float {name}" for name in columns),
        *(f"property uchar {name}" for name in colours),
        f"element face {len(mesh.triangles)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    vertices = np.empty(len(mesh.vertices), [(n, "<f4") for n in columns] + [(n, "u1") for n in colours])
    for name, values in (columns | colours).items():
        vertices[name] = values
    faces = np.empty(len(mesh.triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.triangles
    return "\n".join([*header, ""]).encode() + vertices.tobytes() + faces.tobytes()
