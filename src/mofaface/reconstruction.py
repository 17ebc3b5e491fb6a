"""What is known of one face of a photo, and how it is saved."""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from mofaface.camera import PosedCamera
from mofaface.code import Code
from mofaface.crop import Crop
from mofaface.decoder import Decoder, Face
from mofaface.export import Mesh, write_mesh
from mofaface.geometry import Geometry
from mofaface.photo import Photo
from mofaface.pictures import overlay, save_picture

FORMAT = "mofaface-code"
FORMAT_VERSION = "1"
CONVENTION = "mm, radians, pixels with (0, 0) at the corner; camera x right, y down, z forward; RGB in [0, 1]"
Output = Literal["overlay", "glb", "obj", "ply", "json"]
DEFAULT_OUTPUTS: tuple[Output, ...] = ("overlay", "glb", "json")
FILES: dict[Output, str] = {
    "overlay": "overlay.png",
    "glb": "face.glb",
    "obj": "face.obj",
    "ply": "face.ply",
    "json": "code.json",
}


class OccupiedError(ValueError):
    """A folder for results that holds something else; the message says what to do."""


class Decoded:
    """What the decoder says of one code; each part is computed when it is first asked for, and kept."""

    def __init__(self, decoder: Decoder, geometry: Geometry, code: Code):
        """`code` without a batch dimension."""
        self._decoder, self._geometry, self._code = decoder, geometry, code

    @cached_property
    def vertices(self) -> Float[np.ndarray, "vertices 3"]:
        """The face in model space, mm."""
        code = self._on_device()
        with torch.no_grad():
            return self._geometry(code.alpha[0], code.delta[0]).cpu().numpy()

    @cached_property
    def reflectance(self) -> Float[np.ndarray, "vertices 3"]:
        """Skin reflectance, RGB in [0, 1]."""
        with torch.no_grad():
            return self._decoder.model.reflectance(self._on_device().beta)[0].clamp(0, 1).cpu().numpy()

    @cached_property
    def colour(self) -> Float[np.ndarray, "vertices 3"]:
        """Colour under the photo's light, RGB in [0, 1]."""
        with torch.no_grad():
            face: Face = self._decoder(self._on_device())
            return face.colour[0].clamp(0, 1).cpu().numpy()

    @cached_property
    def triangles(self) -> Int[np.ndarray, "faces 3"]:
        """Counter-clockwise seen from outside."""
        return self._decoder.model.triangles.cpu().numpy()

    @cached_property
    def uv(self) -> Float[np.ndarray, "vertices 2"] | None:
        """Texture coordinates, v up; None for a model without."""
        return self._decoder.model.arrays.uv

    def _on_device(self) -> Code:
        model = self._decoder.model
        return Code(**{name: part.to(model.mean_shape)[None] for name, part in vars(self._code).items()})

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: everything decoded, without the face model."""
        return {name: getattr(self, name) for name in DECODED}


DECODED = ("vertices", "reflectance", "colour", "triangles", "uv")


@dataclass(frozen=True)
class Reconstruction:
    """One face of a photo."""

    code: Code
    """Pose, shape, expression, reflectance and light, without a batch dimension."""
    decoded: Decoded
    """What the code stands for; its parts are also here."""
    camera_crop: PosedCamera
    """The camera of the 240×240 crop."""
    camera_photo: PosedCamera
    """The camera of the full photo."""
    landmarks_68: Float[np.ndarray, "68 2"]
    """Places in the photo, pixels."""
    photometric_error: float
    """Mean RGB distance between face and photo."""
    quality: float
    """1 for a face that explains the photo exactly, 0 for one that explains nothing."""
    crop: Crop
    """What the network saw."""
    photo: Photo
    """Where the face was found."""
    model: dict[str, str]
    """Name, version and digest of the face model."""
    weights: str
    """Name of the weights; "fit" for an optimised code."""
    index: int = 0
    """Which face of the photo: 0 is the first."""
    note: str = ""
    """How an optimisation ended; empty for a network's answer."""

    @property
    def vertices(self) -> Float[np.ndarray, "vertices 3"]:
        """The face in model space, mm, with its expression."""
        return self.decoded.vertices

    @property
    def reflectance(self) -> Float[np.ndarray, "vertices 3"]:
        """Skin reflectance, RGB in [0, 1]."""
        return self.decoded.reflectance

    @property
    def colour(self) -> Float[np.ndarray, "vertices 3"]:
        """Colour under the photo's light, RGB in [0, 1]."""
        return self.decoded.colour

    @property
    def triangles(self) -> Int[np.ndarray, "faces 3"]:
        """Counter-clockwise seen from outside."""
        return self.decoded.triangles

    @property
    def uv(self) -> Float[np.ndarray, "vertices 2"] | None:
        """Texture coordinates, v up; None for a model without."""
        return self.decoded.uv

    @property
    def mesh(self) -> Mesh:
        """The face as a mesh, mm, coloured with its reflectance."""
        return Mesh(self.vertices, self.triangles, self.reflectance, self.uv)

    def overlay(self) -> UInt8[np.ndarray, "height width 3"]:
        """The photo with the face drawn over it, at the photo's resolution."""
        camera = self.camera_photo
        x_camera = torch.from_numpy(self.vertices.astype(np.float64)) @ camera.R.mT + camera.t
        places = camera.project(torch.from_numpy(self.vertices.astype(np.float64)))
        return overlay(self.photo.pixels, places.numpy(), x_camera[:, 2].numpy(), self.triangles, self.colour)

    def to_json(self) -> dict[str, Any]:
        """Everything but the mesh as plain values, as `code.json` holds it."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "convention": CONVENTION,
            "model": self.model,
            "weights": self.weights,
            "code": {name: getattr(self.code, name).tolist() for name in vars(self.code)},
            "camera": {"crop": _plain(self.camera_crop), "photo": _plain(self.camera_photo)},
            "landmarks_68": self.landmarks_68.tolist(),
            "quality": self.quality,
            "photometric_error": self.photometric_error,
            "note": self.note,
        }

    def save(
        self, out: str | Path, name: str | None = None, outputs: Iterable[Output] = DEFAULT_OUTPUTS
    ) -> Path:
        """Write the folder `out/name` and return it; it appears only when it is complete.

        The name is the photo's if none is given, with `_2`, `_3` … for further faces. A folder of an earlier
        result is replaced; raises OccupiedError, a ValueError, for one with anything else in it.
        """
        suffix = f"_{self.index + 1}" if self.index else ""
        folder = Path(out) / (name or folder_stem(self.photo.name) + suffix)
        _check_ours(folder)
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            for output in outputs:
                self._write(partial, output)
            _remove_ours(folder)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return folder

    def _write(self, folder: Path, output: Output) -> None:
        path = folder / FILES[output]
        match output:
            case "overlay":
                save_picture(path, self.overlay())
            case "json":
                path.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False), encoding="utf-8")
            case _:
                write_mesh(path, self.mesh)


def folder_stem(photo: str) -> str:
    """The name of a photo's folder: its stem without dots and blanks at the ends, which could mean a folder above."""
    return Path(photo).stem.strip(". ") or "photo"


def _check_ours(folder: Path) -> None:
    """Raises OccupiedError where `folder` is there and is no result of `save`."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OccupiedError(f"{folder} is not a folder of results; give another --out")
    if folder.is_dir() and not all(p.name in FILES.values() and p.is_file() for p in folder.iterdir()):
        raise OccupiedError(f"{folder} holds other files; give another --out")


def _remove_ours(folder: Path) -> None:
    """Remove an earlier result, by the names of its files, so that nothing else can go with it."""
    _check_ours(folder)
    if folder.is_dir():
        for name in FILES.values():
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _plain(camera: PosedCamera) -> dict[str, Any]:
    return {
        "K": camera.K.tolist(),
        "R": camera.R.tolist(),
        "t": camera.t.tolist(),
        "size": list(camera.size),
    }
