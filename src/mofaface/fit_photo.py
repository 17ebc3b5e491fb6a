"""From a photograph to its largest face by optimisation, in terms of the photo."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.crop import Box, Crop, crops_to_tensor, cut_crop
from mofaface.decoder import Decoder
from mofaface.detection import DetectorName, detect_faces
from mofaface.face_model import FaceModel
from mofaface.facemesh import find_mesh
from mofaface.fit import Fit, FitConfig, Fitter
from mofaface.landmarks import LANDMARKS_46
from mofaface.losses import LossWeights
from mofaface.metrics import photometric_error
from mofaface.photo import Photo
from mofaface.reconstruct import describe
from mofaface.reconstruction import Reconstruction
from mofaface.report import NoFaceError

# Landmarks whose confidences sum to fewer sure points than this would throw the head about.
FEWEST_LANDMARKS = 6.0


class PhotoFitter:
    """Fits a face model to photos: called with a photo, it gives the largest face, as a network would."""

    def __init__(
        self,
        model: FaceModel,
        landmarks: bool = True,
        detector: DetectorName = "yunet",
        weights: LossWeights | None = None,
        config: FitConfig | None = None,
    ):
        """`weights` of the energy; the paper's with landmarks if not given."""
        self.decoder = Decoder(model)
        self.fitter = Fitter(self.decoder)
        self.landmarks = landmarks
        self.detector = detector
        self.weights = weights or LossWeights(land=1.0)
        self.config = config

    def __call__(self, photo: Photo) -> list[Reconstruction]:
        """The largest face; raises NoFaceError with the reason when there is none."""
        found = detect_faces(photo, self.detector)
        if not found.faces:
            raise NoFaceError(found.reason)
        box = found.faces[0]
        crop = cut_crop(photo, box)
        image = crops_to_tensor([crop]).to(self.decoder.model.mean_shape)
        places, confidence = self._find_landmarks(photo, box, crop)
        weights = self.weights if places is not None else replace(self.weights, land=0.0, contour=0.0)
        result = self.fitter(image, weights, places, confidence, config=self.config)
        with torch.no_grad():
            face = self.decoder(result.code)
            error = photometric_error(image, face)
        return describe(self.decoder, photo, [crop], result.code, error, "fit", [ending(result)])

    def _find_landmarks(
        self, photo: Photo, box: Box, crop: Crop
    ) -> tuple[Float[Tensor, "1 46 2"] | None, Float[Tensor, "1 46"] | None]:
        """The 46 landmarks in pixels of the crop with their confidences; None where not used or not found."""
        if not self.landmarks:
            return None, None
        mesh = find_mesh(photo, box)
        inner = list(LANDMARKS_46)
        confidence = mesh.confidence_68[inner]
        if confidence.sum() < FEWEST_LANDMARKS:
            return None, None
        places = crop.photo_from_crop.inverse().apply(mesh.landmarks_68[inner])
        return torch.from_numpy(places)[None], torch.from_numpy(confidence)[None]


def ending(result: Fit) -> str:
    """How a fit ended, one phrase."""
    if result.converged:
        return f"converged after {result.iterations} iterations"
    return f"did not converge in {result.iterations} iterations: {result.reason}"
