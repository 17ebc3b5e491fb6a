"""Encoder and decoder as ONNX files for other programs, format version 1.

`encoder.onnx`: crops, RGB in [0, 1], batch × 3 × 240 × 240 → the parts of the code. `decoder.onnx`: the parts of the code →
the mesh. Both take batches of any size; their metadata name the face model, the camera and the conventions.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mofaface.autoencoder import Autoencoder
from mofaface.camera import extrinsics, project
from mofaface.code import Code
from mofaface.crop import CROP_SIZE
from mofaface.decoder import Decoder, illuminate
from mofaface.encoders import Encoder
from mofaface.encoders.preprocess import resize
from mofaface.files import written_whole
from mofaface.mesh import normalise
from mofaface.reconstruction import CONVENTION
from mofaface.rotation import rotation_matrix
from mofaface.weights import model_identity

FORMAT = "mofaface-onnx"
FORMAT_VERSION = "1"
OPSET = 18
MOST_NUMBERS = 2**31
CODE = tuple(part.name for part in fields(Code))
MESH = ("vertices", "normals", "reflectance", "colour", "places", "R", "t", "triangles")
MEANING = {
    "image": "crop of 240×240 pixels, RGB in [0, 1]",
    "alpha": "shape, standard deviations",
    "delta": "expression, standard deviations",
    "beta": "reflectance, standard deviations",
    "rotation": "rotation vector of the camera, radians",
    "translation": "head's origin in camera axes, mm, relative to its place for the zero code",
    "gamma": "light, nine harmonics × RGB, relative to the ambient offset",
    "vertices": "model space, mm",
    "normals": "unit vectors, model space",
    "reflectance": "RGB, sRGB values, not clamped to [0, 1]",
    "colour": "RGB under the light, not clamped to [0, 1]",
    "places": "pixels of the crop",
    "R": "x_camera = R x_model + t",
    "t": "mm",
    "triangles": "three vertices each, counter-clockwise seen from outside; the same for every code",
}


class _Encoder(nn.Module):
    """Crops → the parts of the code. The filtered resize is two products with one matrix, which every runtime has."""

    rows: Tensor

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder
        self.register_buffer("rows", resize_matrix(CROP_SIZE, encoder.backbone.preprocess.format.size))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        resized = self.rows @ image @ self.rows.mT
        code = self.encoder.head(self.encoder.backbone(resized))
        return tuple(getattr(code, name) for name in CODE)


class _Decoder(nn.Module):
    """The parts of the code → what a program needs to draw the face."""

    ring: Tensor

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.decoder = decoder
        self.register_buffer("ring", triangles_of_vertices(decoder.model.triangles, decoder.model.vertices))

    def forward(
        self, alpha: Tensor, delta: Tensor, beta: Tensor, rotation: Tensor, translation: Tensor, gamma: Tensor
    ) -> tuple[Tensor, ...]:
        model, camera = self.decoder.model, self.decoder.camera
        vertices = model.geometry(alpha, delta)
        normals = self._normals(vertices)
        R, t = extrinsics(rotation_matrix(rotation), translation, camera)
        reflectance = model.reflectance(beta)
        colour = reflectance * illuminate(normals @ R.mT, gamma)
        places = project(vertices @ R.mT + t[:, None], camera)
        return vertices, normals, reflectance, colour, places, R, t, model.triangles.clone()

    def _normals(self, vertices: Tensor) -> Tensor:
        """mesh.vertex_normals by gathering alone: runtimes that add at places in several threads lose some."""
        a, b, c = (vertices[:, self.decoder.model.triangles[:, k]] for k in range(3))
        f = torch.linalg.cross(b - a, c - a)
        f = torch.cat((f, torch.zeros_like(f[:, :1])), 1)
        return normalise(f[:, self.ring].sum(2))


def triangles_of_vertices(triangles: Int[Tensor, "faces 3"], vertices: int) -> Int[Tensor, "{vertices} most"]:
    """For each vertex the triangles that it belongs to, filled up with the number of triangles."""
    corner = triangles.flatten()
    order = corner.argsort(stable=True)
    count = corner.bincount(minlength=vertices)
    place = torch.arange(len(order)) - (count.cumsum(0) - count)[corner[order]]
    ring = torch.full((vertices, int(count.max())), len(triangles))
    ring[corner[order], place] = order // 3
    return ring


def resize_matrix(before: int, after: int) -> Float[Tensor, "{after} {before}"]:
    """The filtered resize of one axis as a matrix M, so that M X Mᵀ is a picture X resized."""
    if before == after:
        return torch.eye(before)
    # Each unit vector as a picture that changes downwards only.
    pictures = torch.eye(before)[:, None, :, None].expand(-1, 3, -1, before)
    return resize(pictures.contiguous(), after)[:, 0, :, 0].mT.contiguous()


def onnx_paths(path: Path) -> tuple[Path, Path]:
    """Where encoder and decoder go: in the folder `path`, or, for face.onnx, to face.onnx and face_decoder.onnx."""
    if path.suffix.lower() == ".onnx":
        return path, path.with_name(f"{path.stem}_decoder{path.suffix}")
    return path / "encoder.onnx", path / "decoder.onnx"


def export_onnx(autoencoder: Autoencoder, path: Path, weights: str) -> tuple[Path, Path]:
    """Write encoder and decoder and return their paths, those of `onnx_paths`.

    Raises ImportError where the packages of the extra "export" are missing.
    """
    for package in ("onnx", "onnxscript"):  # torch would say it in many lines
        import_module(package)
    decoder = autoencoder.decoder
    about = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "convention": CONVENTION,
        "model": json.dumps(model_identity(decoder.model)),
        "camera": json.dumps(asdict(decoder.camera)),
        "weights": weights,
    }
    encoder = autoencoder.encoder
    assert isinstance(encoder, Encoder)  # a weights file holds nothing else
    paths = onnx_paths(path)
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    # Two of a batch: torch takes a size of 1 for a constant.
    code = [getattr(decoder.model.layout.zero(2), name) for name in CODE]
    crops = [torch.rand(2, 3, CROP_SIZE, CROP_SIZE)]
    _write(paths[0], _Encoder(encoder), crops, ("image",), CODE, about)
    _write(paths[1], _Decoder(decoder), code, CODE, MESH, about)
    return paths


def _write(
    path: Path,
    network: nn.Module,
    example: list[Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
    about: dict[str, str],
) -> None:
    """Export one network and say in its metadata what its inputs and outputs are."""
    from onnxscript.optimizer import optimize_ir  # a package that not every installation has

    batch = torch.export.Dim("batch")
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            network.eval(),
            tuple(example),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch} for _ in example),
            verbose=False,
        )
        assert program is not None
        # Batch statistics go into the weights, whose size the exporter's own pass shies away from.
        optimize_ir(program.model, input_size_limit=MOST_NUMBERS, output_size_limit=MOST_NUMBERS)
    program.model.metadata_props.update(about | {name: MEANING[name] for name in (*inputs, *outputs)})
    with written_whole(path) as temporary:
        program.save(str(temporary), external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on its own insides, of which it makes hundreds."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
