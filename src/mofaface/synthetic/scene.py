"""Picture i of a configuration: its code, its picture, and everything that is known about it."""

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from mofaface.camera import Camera, extrinsics
from mofaface.code import Code
from mofaface.corpus.sample import FORMAT, VERSION, Sample, Task, encode_jpeg
from mofaface.decoder import AMBIENT, Face
from mofaface.face_models import load_face_model
from mofaface.rotation import rotation_matrix
from mofaface.synthetic.anatomy import Anatomy, head_pieces, mouth_pieces
from mofaface.synthetic.backdrop import Backdrops, cover
from mofaface.synthetic.codes import CodeSampler
from mofaface.synthetic.config import SynthConfig
from mofaface.synthetic.degrade import degrade, photo_edge
from mofaface.synthetic.pieces import Piece
from mofaface.synthetic.render import Renderer
from mofaface.synthetic.worn import glasses_pieces, hair_pieces
from mofaface.weights import model_identity

# Streams of random numbers beside those of codes.
SCENE, DEGRADATION = 3, 4
# What a landmark is worth that is inside the crop but hidden: its place is exact, its pixel shows something else.
HIDDEN = 0.25
# Landmarks lie on contours and lids, where the surface turns away within a pixel, mm.
NEAR_LANDMARK = 4.0


@dataclass(frozen=True)
class Synthetic:
    """One picture and its truth."""

    pixels: UInt8[np.ndarray, "240 240 3"]
    code: Code
    camera: Camera
    landmarks: Float[np.ndarray, "68 2"]
    """Pixels of the crop."""
    confidence: Float[np.ndarray, "68"]
    visible: Bool[np.ndarray, "vertices"]
    """Vertices that nothing hides."""
    seen: float
    """The part of the frontal vertices turned to the camera that nothing hides."""


class Scenes:
    """Makes the pictures of a configuration."""

    def __init__(self, config: SynthConfig):
        self.config = config
        self.model = load_face_model(config.model)
        self.codes = CodeSampler(config, self.model)
        self.render = Renderer(self.model, config.supersample)
        self.anatomy = Anatomy(self.model)
        self.backdrops = Backdrops(config)

    def __call__(self, i: int) -> Synthetic:
        """Picture `i`."""
        config = self.config
        code, camera = self.codes(i, person_of(config, i))
        rng = np.random.default_rng([config.seed, SCENE, i])
        face = self.render.decode(code, camera)
        rendering = self.render(code, camera, face, self._pieces(code, camera, face, rng))
        gain = _white_balance(code)
        picture = rendering.colour + (1 - rendering.alpha) * (self.backdrops(rng) * gain).clip(0, 1).astype(
            np.float32
        )
        uv = face.uv_crop[0].numpy()
        visible, marked = rendering.visible, rendering.behind <= NEAR_LANDMARK
        if rng.random() < config.surroundings.occluder_rate:
            picture, mask = cover(picture, _pixels_of(uv[visible], camera.size), gain, rng)
            free = _at(mask, uv) < 0.5
            visible, marked = visible & free, marked & free
        rng = np.random.default_rng([config.seed, DEGRADATION, i])
        pixels = degrade(picture, config.degradation, rng)
        landmarks = uv[self.model.landmarks_68.numpy()].astype(np.float64)
        if rng.random() < config.degradation.edge_rate:
            pixels, (left, top, right, bottom) = photo_edge(pixels, landmarks, rng)
            kept = (uv >= (left, top)).all(1) & (uv < (right, bottom)).all(1)
            visible, marked = visible & kept, marked & kept
        inside = ((landmarks >= 0) & (landmarks <= camera.size)).all(1)
        confidence = np.where(marked[self.model.landmarks_68.numpy()], 1.0, HIDDEN) * inside
        front = face.front[0].numpy()
        return Synthetic(
            pixels,
            code,
            camera,
            landmarks,
            confidence,
            visible,
            float(visible[front].mean()) if front.any() else 0.0,
        )

    def _pieces(self, code: Code, camera: Camera, face: Face, rng: np.random.Generator) -> list[Piece]:
        """What is seen beside the face, in model space."""
        how, anatomy, skin = self.config.surroundings, self.anatomy, face.reflectance[0].numpy()
        R, t = (
            part[0].double().numpy()
            for part in extrinsics(rotation_matrix(code.rotation), code.translation, camera)
        )
        x, n = (face.x_camera[0].double().numpy() - t) @ R, face.n_camera[0].double().numpy() @ R
        pieces = mouth_pieces(anatomy, x, code.alpha[0].double().numpy(), rng)
        headed, haired, spectacled = rng.random(3) < (how.head_rate, how.hair_rate, how.glasses_rate)
        if headed and len(anatomy.rim):
            pieces += head_pieces(anatomy, x, n, skin, rng)
            if haired:
                pieces += hair_pieces(anatomy, x, skin, how, rng)
        if spectacled:
            pieces += glasses_pieces(x[anatomy.landmarks], rng)
        return pieces


def person_of(config: SynthConfig, i: int) -> int:
    """The number of the person whom picture `i` shows; nobody is in both splits."""
    held_out = config.n - config.validation
    group = config.people.photos_per_person
    if group == 1:
        return i
    return i // group if i < held_out else held_out + (i - held_out) // group


def make_synthetic(task: Task, config: SynthConfig) -> Sample:
    """The sample of a task; its item's frame is the picture's number."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        # Sums depend on the number of threads, and pictures must not.
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        scenes = _scenes(config)
        made = scenes(task.item.frame)
        meta = {"format": FORMAT, "version": VERSION}
        meta |= {name: getattr(task, name) for name in ("key", "source", "person", "split")}
        meta |= {"name": task.item.name} | described(made) | {"face_model": model_identity(scenes.model)}
        return Sample(task.key, meta, encode_jpeg(made.pixels))
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def described(made: Synthetic) -> dict[str, Any]:
    """The metadata of a picture: code and landmarks, and nothing in the fields of detectors."""
    code = {name: _exact(part[0].numpy()) for name, part in vars(made.code).items()}
    return {
        "landmarks_68": made.landmarks.round(4).tolist(),
        "confidence_68": made.confidence.tolist(),
        "yaw": round(_yaw(made.code), 4),
        "score": None,
        "presence": None,
        "disagreement": None,
        "seen": round(made.seen, 4),
        "code": code,
        "camera": asdict(made.camera),
    }


def _exact(values: np.ndarray) -> list[Any]:
    """Numbers that read back as the same float32, written as shortly as that allows."""
    if values.ndim > 1:
        return [_exact(row) for row in values]
    short = [float(str(v)) for v in values]
    return [s if np.float32(s) == v else float(v) for s, v in zip(short, values, strict=True)]


def _yaw(code: Code) -> float:
    """The head's turn, radians, positive when it looks to the picture's right, as in corpora of photographs."""
    R, _ = extrinsics(rotation_matrix(code.rotation), code.translation, Camera())
    across = R[0, :, 0]
    return float(torch.atan2(across[2], across[:2].norm()))


def _white_balance(code: Code) -> Float[np.ndarray, "3"]:
    """The colour cast of the light on the face, mean 1, which the background shares."""

    mean = np.maximum(code.gamma[0, 0].double().numpy() + AMBIENT, 0.05)
    return mean / mean.mean()


def _pixels_of(uv: Float[np.ndarray, "points 2"], size: int) -> Bool[np.ndarray, "size size"]:
    """The pixels in which points are seen."""
    mask = np.zeros((size, size), bool)
    column, row = np.floor(uv).clip(0, size - 1).astype(np.int64).T
    mask[row, column] = True
    return mask


def _at(mask: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """The mask's value at places."""
    column, row = np.floor(uv).clip(0, len(mask) - 1).astype(np.int64).T
    return mask[row, column]


@cache
def _scenes(config: SynthConfig) -> Scenes:
    return Scenes(config)
