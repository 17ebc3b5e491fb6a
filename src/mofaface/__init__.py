"""One photograph in, a face with meaning out: pose, shape, expression, skin reflectance and light.

import mofaface
faces = mofaface.load()("photo.jpg")
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Code",
    "FaceModel",
    "Photo",
    "PhotoError",
    "Reconstruction",
    "Reconstructor",
    "load",
    "load_face_model",
    "read_photo",
]

if TYPE_CHECKING:
    from mofaface.code import Code
    from mofaface.face_model import FaceModel
    from mofaface.face_models import load_face_model
    from mofaface.photo import Photo, PhotoError, read_photo
    from mofaface.reconstruct import Reconstructor, load
    from mofaface.reconstruction import Reconstruction

_HOMES = {
    "Code": "code",
    "FaceModel": "face_model",
    "load_face_model": "face_models",
    "Photo": "photo",
    "PhotoError": "photo",
    "read_photo": "photo",
    "Reconstructor": "reconstruct",
    "load": "reconstruct",
    "Reconstruction": "reconstruction",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the layers below must not pull in the ones above."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mofaface' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"mofaface.{_HOMES[name]}"), name)
