"""The file that holds a face model: safetensors, format "mofaface-face-model", version 1.

Arrays (C cage vertices, or C = N without a subdivision; K modes; all little-endian, no pickle anywhere):
    mean_shape f32 (C, 3) mm · shape_basis f16 (C, 3, Ks) · expression_basis f16 (C, 3, Ke)
    subdivision/indptr, /indices i32, /values f32: compressed rows of S (N × C), absent for a plain model
    mean_reflectance f32 (N, 3) · reflectance_basis i8 (N, 3, Kr), times reflectance_scale f32 (Kr)
    triangles i32 (F, 3) counter-clockwise from outside · uv f32 (N, 2), v up · mirror i32 (N)
    landmarks_68 i32 (68) · coarse_vertices i32 · coarse_triangles i32 · region/<name> i32 · units_expression f32
Bases carry their standard deviations. The header's metadata holds `format`, `format_version`, `name`, `version`, `licence`,
`units`, `notes`, `unit_names` (JSON) and `digest`, the SHA-256 over all arrays in the order of their names.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mofaface.face_model import FaceModel, FaceModelArrays, SparseMatrix
from mofaface.files import written_whole

FORMAT = "mofaface-face-model"
FORMAT_VERSION = "1"
_INTEGERS = ("triangles", "landmarks_68", "mirror", "coarse_vertices", "coarse_triangles")
_FLOATS = ("mean_shape", "mean_reflectance", "uv", "units_expression")
_TEXTS = ("name", "version", "licence", "units", "notes")


class ContainerError(ValueError):
    """A file that should hold a face model and does not."""


def write_face_model(path: Path, arrays: FaceModelArrays) -> str:
    """Write a face model and return its digest; the file appears only when it is complete."""
    tensors = _to_tensors(arrays)
    digest = _digest(tensors)
    texts = {name: getattr(arrays, name) for name in _TEXTS}
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "digest": digest,
        "unit_names": json.dumps(arrays.unit_names),
        **texts,
    }
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata)
    return digest


def read_face_model(path: Path) -> FaceModel:
    """The face model of a container file; raises ContainerError when it is no such file or damaged."""
    arrays, digest = read_arrays(path)
    return FaceModel(arrays, digest)


def read_arrays(path: Path) -> tuple[FaceModelArrays, str]:
    """The arrays of a container file, as they are stored, and their digest."""
    if not path.is_file():
        raise ContainerError(f"a face model is a file, and there is none at {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ContainerError(
            f"{path} is not a readable face model ({error}); copy or build it again"
        ) from error
    if metadata.get("format") != FORMAT:
        raise ContainerError(
            f"{path} holds '{metadata.get('format', 'something else')}', not a face model ('{FORMAT}')"
        )
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ContainerError(
            f"{path} has format version {metadata.get('format_version')}; this mofaface reads version {FORMAT_VERSION}"
        )
    if _digest(tensors) != metadata.get("digest"):
        raise ContainerError(
            f"{path} is damaged: its arrays do not match their digest; copy or build it again"
        )
    return _from_tensors(tensors, metadata), metadata["digest"]


def _to_tensors(a: FaceModelArrays) -> dict[str, np.ndarray]:
    scale = np.abs(a.reflectance_basis).max((0, 1)).astype(np.float32) / 127
    quantised = np.rint(a.reflectance_basis / np.where(scale > 0, scale, 1)).astype(np.int8)
    tensors = {
        "shape_basis": a.shape_basis.astype(np.float16),
        "expression_basis": a.expression_basis.astype(np.float16),
        "reflectance_basis": quantised,
        "reflectance_scale": scale,
    }
    for names, dtype in ((_INTEGERS, np.int32), (_FLOATS, np.float32)):
        for name in names:
            if getattr(a, name) is not None:
                tensors[name] = getattr(a, name).astype(dtype)
    if a.subdivision is not None:
        tensors["subdivision/indptr"] = a.subdivision.indptr.astype(np.int32)
        tensors["subdivision/indices"] = a.subdivision.indices.astype(np.int32)
        tensors["subdivision/values"] = a.subdivision.values.astype(np.float32)
    tensors |= {f"region/{name}": region.astype(np.int32) for name, region in a.regions.items()}
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def _from_tensors(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> FaceModelArrays:
    values: dict[str, Any] = {name: metadata[name] for name in _TEXTS}
    values |= {name: tensors[name] for name in _INTEGERS + _FLOATS if name in tensors}
    if "subdivision/indptr" in tensors:
        indptr, indices, entries = (
            tensors[f"subdivision/{part}"] for part in ("indptr", "indices", "values")
        )
        values["subdivision"] = SparseMatrix(indptr, indices, entries, columns=len(tensors["mean_shape"]))
    return FaceModelArrays(
        **values,
        shape_basis=tensors["shape_basis"].astype(np.float32),
        expression_basis=tensors["expression_basis"].astype(np.float32),
        reflectance_basis=tensors["reflectance_basis"] * tensors["reflectance_scale"],
        regions={n.removeprefix("region/"): t for n, t in tensors.items() if n.startswith("region/")},
        unit_names=tuple(json.loads(metadata["unit_names"])),
    )


def _digest(tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
