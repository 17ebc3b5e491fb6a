"""From a photograph to its faces: detection, crop, one pass of the network, results in terms of the photo."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.autoencoder import Autoencoder
from mofaface.camera import Camera, PosedCamera, extrinsics
from mofaface.code import Code
from mofaface.crop import Box, Crop, crops_to_tensor, cut_crop
from mofaface.decoder import Decoder, Face
from mofaface.detection import Detection, DetectorName, detect_faces
from mofaface.face_models import load_face_model
from mofaface.metrics import photometric_error
from mofaface.photo import Photo, PhotoSource, read_photo
from mofaface.reconstruction import Reconstruction
from mofaface.rotation import rotation_matrix
from mofaface.weights import DEFAULT_WEIGHTS, find_weights, model_identity, read_autoencoder

# A photometric error of this size means that the model explains next to nothing of the crop.
HOPELESS_ERROR = 0.25


class Reconstructor:
    """Reads faces out of photographs. Make one with `mofaface.load()` and call it with a photo."""

    def __init__(self, autoencoder: Autoencoder, detector: DetectorName, weights: str):
        self.autoencoder = autoencoder
        self.detector = detector
        self.weights = weights

    def __call__(
        self, source: PhotoSource, faces: Literal["largest", "all"] = "largest"
    ) -> list[Reconstruction]:
        """The faces of a photo (file, bytes, RGB array, Pillow image), largest first; empty if there is none.

        Raises PhotoError when the photo cannot be read.
        """
        photo = read_photo(source)
        return self.from_boxes(photo, self.detect(photo).faces[: 1 if faces == "largest" else None])

    def detect(self, photo: Photo) -> Detection:
        """The boxes of a photo's faces, largest first, and why there are none if so."""
        return detect_faces(photo, self.detector)

    @torch.no_grad()
    def from_boxes(self, photo: Photo, boxes: Sequence[Box]) -> list[Reconstruction]:
        """The faces in these boxes of a photo."""
        if not boxes:
            return []
        crops = [cut_crop(photo, box) for box in boxes]
        device = next(self.autoencoder.parameters()).device
        image = crops_to_tensor(crops).to(device)
        code, face = self.autoencoder(image)
        return describe(
            self.autoencoder.decoder, photo, crops, code, face, photometric_error(image, face), self.weights
        )


@torch.no_grad()
def describe(
    decoder: Decoder,
    photo: Photo,
    crops: list[Crop],
    code: Code,
    face: Face,
    errors: Float[Tensor, "batch"],
    weights: str,
    notes: Sequence[str] = (),
) -> list[Reconstruction]:
    """Decoded codes of crops of one photo in terms of the photo, whatever predicted them."""
    model = decoder.model
    cameras = crop_cameras(decoder.camera, code)
    vertices = model.geometry(code.alpha, code.delta).cpu().numpy()
    height, width = photo.pixels.shape[:2]
    results = []
    for i, crop in enumerate(crops):
        s = crop.photo_from_crop
        results.append(
            Reconstruction(
                code=Code(**{name: part[i].cpu() for name, part in vars(code).items()}),
                vertices=vertices[i],
                reflectance=face.reflectance[i].clamp(0, 1).cpu().numpy(),
                colour=face.colour[i].clamp(0, 1).cpu().numpy(),
                triangles=model.triangles.cpu().numpy(),
                uv=model.arrays.uv,
                camera_crop=cameras[i],
                camera_photo=cameras[i].moved(s.scale, s.angle, (s.tx, s.ty), (width, height)),
                landmarks_68=s.apply(face.uv_crop[i, model.landmarks_68].cpu().double().numpy()),
                photometric_error=float(errors[i]),
                quality=max(0.0, 1 - float(errors[i]) / HOPELESS_ERROR),
                crop=crop,
                photo=photo,
                model=model_identity(model),
                weights=weights,
                index=i,
                note=notes[i] if notes else "",
            )
        )
    return results


def crop_cameras(camera: Camera, code: Code) -> list[PosedCamera]:
    """The cameras of the crops of a batch of codes."""
    # On the CPU first: Apple's GPUs have no float64.
    R, t = extrinsics(rotation_matrix(code.rotation.cpu().double()), code.translation.cpu().double(), camera)
    return [PosedCamera(camera.K(), r, p, (camera.size, camera.size)) for r, p in zip(R, t, strict=True)]


def load(
    weights: str | Path = DEFAULT_WEIGHTS,
    model: str | Path = "open",
    detector: DetectorName = "yunet",
    device: str | None = None,
) -> Reconstructor:
    """A reconstructor with trained weights (a shipped name or a file) for a face model ("open" or a file).

    The device is "cuda" where there is one and otherwise "cpu". Apple's GPU is used only if asked for ("mps"):
    older torch lacks the border padding of grid_sample there.
    """
    path = find_weights(weights)
    autoencoder = read_autoencoder(path, load_face_model(model))
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Reconstructor(autoencoder.to(chosen), detector, path.stem)
