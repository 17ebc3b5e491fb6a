"""From photographs to their faces: detection, crop, one pass of the network, results in terms of the photo."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.autoencoder import Autoencoder
from mofaface.camera import Camera, PosedCamera, extrinsics
from mofaface.code import Code
from mofaface.crop import Box, Crop, crops_to_tensor, cut_crop
from mofaface.decoder import Decoder
from mofaface.detection import Detection, DetectorName, detect_faces
from mofaface.encoders import Encoder
from mofaface.engines import Engine, uses_onnxruntime
from mofaface.face_models import load_face_model
from mofaface.geometry import Geometry, landmark_places
from mofaface.kernels import loss_terms
from mofaface.kernels.terms import Terms
from mofaface.photo import Photo, PhotoSource, read_photo
from mofaface.pipeline import Stages
from mofaface.reconstruction import Decoded, Reconstruction
from mofaface.refine import Refiner
from mofaface.report import NoFaceError
from mofaface.rotation import rotation_matrix
from mofaface.weights import DEFAULT_WEIGHTS, find_weights, model_identity, read_autoencoder

# A photometric error of this size means that the model explains next to nothing of the crop.
HOPELESS_ERROR = 0.25
Which = Literal["largest", "all"]


@dataclass(frozen=True)
class Found:
    """A photo and the crops of its faces, largest first."""

    photo: Photo
    crops: tuple[Crop, ...]


class Reconstructor:
    """Reads faces out of photographs. Make one with `mofaface.load()` and call it with a photo."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        detector: DetectorName,
        weights: str,
        engine: Engine = "torch",
        refine: int = 0,
    ):
        self.autoencoder = autoencoder
        self.detector = detector
        self.weights = weights
        self.engine = engine
        self.refiner = Refiner(autoencoder.decoder, refine) if refine else None
        self._lock = threading.Lock()
        self._encode: Callable[[Tensor], Code] | None = None

    def __call__(self, source: PhotoSource, faces: Which = "largest") -> list[Reconstruction]:
        """The faces of a photo (file, bytes, RGB array, Pillow image), largest first; empty if there is none.

        Raises PhotoError when the photo cannot be read.
        """
        photo = read_photo(source)
        return self.from_boxes(photo, self.detect(photo).faces[: 1 if faces == "largest" else None])

    def detect(self, photo: Photo) -> Detection:
        """The boxes of a photo's faces, largest first, and why there are none if so."""
        return detect_faces(photo, self.detector, engine=self.engine)

    def find(self, photo: Photo, faces: Which = "largest") -> Found:
        """The crops of a photo's faces; raises NoFaceError that says why there is none."""
        found = self.detect(photo)
        if not found.faces:
            raise NoFaceError(found.reason)
        boxes = found.faces[: 1 if faces == "largest" else None]
        return Found(photo, tuple(cut_crop(photo, box) for box in boxes))

    def stages(self, faces: Which = "largest") -> Stages[Found]:
        """How a folder of photos is worked on, for `process_in_stages`."""
        return Stages(lambda photo: self.find(photo, faces), self.from_crops)

    def from_boxes(self, photo: Photo, boxes: Sequence[Box]) -> list[Reconstruction]:
        """The faces in these boxes of a photo."""
        return self.from_crops([Found(photo, tuple(cut_crop(photo, box) for box in boxes))])[0]

    @torch.no_grad()
    def from_crops(self, found: Sequence[Found]) -> list[list[Reconstruction]]:
        """The faces of several photos, in one pass of the network."""
        crops = [crop for one in found for crop in one.crops]
        if not crops:
            return [[] for _ in found]
        image = crops_to_tensor(crops).to(next(self.autoencoder.parameters()).device)
        code = self.read(image)
        errors = self._errors(code, image)
        results, start = [], 0
        for one in found:
            part = slice(start, start + len(one.crops))
            codes = Code(**{name: values[part] for name, values in vars(code).items()})
            results.append(self._described(one, codes, errors[part]))
            start = part.stop
        return results

    def encode(self, image: Float[Tensor, "batch 3 240 240"]) -> Code:
        """The codes of crops, by the engine that was chosen."""
        with self._lock:
            if self._encode is None:
                self._encode = _encoder(self.autoencoder, self.engine)
        return self._encode(image)

    def read(self, image: Float[Tensor, "batch 3 240 240"]) -> Code:
        """The codes of crops, refined where that was asked for."""
        code = self.encode(image)
        return code if self.refiner is None else self.refiner(code, image)

    @cached_property
    def geometry(self) -> Geometry:
        """The face model's geometry, for one face after the other."""
        return Geometry(self.autoencoder.decoder.model)

    @cached_property
    def _terms(self) -> Callable[[Code, Tensor], Terms]:
        decoder = self.autoencoder.decoder
        return loss_terms(decoder, decoder.model.landmarks_68)

    def _errors(self, code: Code, image: Tensor) -> Float[Tensor, "batch"]:
        """The photometric errors, as metrics.photometric_error gives them."""
        terms = self._terms(code, image)
        return terms.photo * self.autoencoder.decoder.model.frontal.sum() / terms.front.clamp(min=1)

    def _described(self, found: Found, code: Code, errors: Float[Tensor, "batch"]) -> list[Reconstruction]:
        decoder, crops = self.autoencoder.decoder, list(found.crops)
        notes = [] if self.refiner is None else [f"refined by {self.refiner.steps} steps"] * len(crops)
        return describe(decoder, found.photo, crops, code, errors, self.weights, notes, self.geometry)


def _encoder(autoencoder: Autoencoder, engine: Engine) -> Callable[[Tensor], Code]:
    """The encoder in ONNX Runtime, where that is chosen and can be, and as it is anywhere else."""
    encoder = autoencoder.encoder
    on_cpu = next(autoencoder.parameters()).device.type == "cpu"
    if not (on_cpu and isinstance(encoder, Encoder) and uses_onnxruntime(engine)):
        return encoder
    from mofaface.encoders.onnx_encoder import OnnxEncoder  # needs packages that not every installation has
    from mofaface.encoders.onnx_graph import UnknownOperation

    try:
        return OnnxEncoder(encoder)
    except UnknownOperation:
        if engine == "onnxruntime":
            raise
        return encoder


@torch.no_grad()
def describe(
    decoder: Decoder,
    photo: Photo,
    crops: list[Crop],
    code: Code,
    errors: Float[Tensor, "batch"],
    weights: str,
    notes: Sequence[str] = (),
    geometry: Geometry | None = None,
) -> list[Reconstruction]:
    """Codes of crops of one photo in terms of the photo, whatever predicted them."""
    model = decoder.model
    geometry = geometry or Geometry(model)
    cameras = crop_cameras(decoder.camera, code)
    landmarks = landmark_places(model, decoder.camera, code)
    height, width = photo.pixels.shape[:2]
    results = []
    for i, crop in enumerate(crops):
        s = crop.photo_from_crop
        own = Code(**{name: part[i].cpu() for name, part in vars(code).items()})
        results.append(
            Reconstruction(
                code=own,
                decoded=Decoded(decoder, geometry, own),
                camera_crop=cameras[i],
                camera_photo=cameras[i].moved(s.scale, s.angle, (s.tx, s.ty), (width, height)),
                landmarks_68=s.apply(landmarks[i].numpy()),
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
    engine: Engine = "auto",
    refine: int | None = None,
) -> Reconstructor:
    """A reconstructor with trained weights (a shipped name or a file) for a face model ("open" or a file).

    So many steps as `refine` says follow the network (`Refiner`): closer to the photograph, and slower. Without, those that
    the weights ask for: 12 for "accurate", none for the others that ship.

    The device is "cuda" where there is one and otherwise "cpu". Apple's GPU is used only if asked for ("mps"):
    older torch lacks the border padding of grid_sample there. On the CPU the networks run in ONNX Runtime where it is
    installed, otherwise, or with the engine "torch", in torch and OpenCV.
    """
    uses_onnxruntime(engine)  # what was asked for and is not installed is missed here, not at the first photo
    path = find_weights(weights)
    autoencoder = read_autoencoder(path, load_face_model(model))
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    steps = autoencoder.refine if refine is None else refine
    if steps < 0:
        raise ValueError(f"refine is a number of steps, 0 for the network alone; got {steps}")
    return Reconstructor(autoencoder.to(chosen), detector, path.stem, engine, steps)
