"""Random codes: who, with which expression, in which pose and light; each a function of a seed and a number.

Pose, light and expression come from priors, or from codes that a trained network read off photographs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32

from mofaface.autoencoder import Autoencoder
from mofaface.camera import Camera, extrinsics
from mofaface.code import Code
from mofaface.corpus import CorpusError, CorpusSplit
from mofaface.face_model import FaceModel
from mofaface.face_models.face_units import FaceUnits
from mofaface.files import written_whole
from mofaface.rotation import rotation_matrix
from mofaface.synthetic.config import Pose, SynthConfig
from mofaface.synthetic.light import exposed, gamma_of, never_negative, not_blown_out, random_light, total_of
from mofaface.training.batches import make_batch
from mofaface.training.config import NO_AUGMENTATION
from mofaface.weights import model_identity

# Streams of random numbers: a change of one part leaves the others as they are.
PERSON, FACE = 1, 2
# Inner lips above and below, from the subject's right.
INNER_LIPS = ((61, 67), (62, 66), (63, 65))
SKIN = 50  # of so many vertices one tells how bright the skin is
BROWS, CHIN = slice(17, 27), 8
# A turned face lies off the centre of its crop, towards where it looks: mm for the sine of the turn
# (26.8 px on 1,006 crops; measured once while choosing, not a command of the project).
AHEAD = 26.0
# Expressions of people in photographs, as strongest weights of named face units; both sides act.
EXPRESSIONS: dict[str, dict[str, float]] = {
    "smile": {"mouthSmile": 0.8, "cheekSquint": 0.5, "mouthDimple": 0.4, "eyeSquint": 0.3},
    "laugh": {"mouthSmile": 1.0, "mouthUpperUp": 0.9, "mouthLowerDown": 0.8, "cheekSquint": 0.6, "jawOpen": 0.3,
              "eyeSquint": 0.5, "mouthStretch": 0.3},
    "teeth": {"mouthSmile": 0.9, "mouthUpperUp": 0.9, "mouthLowerDown": 0.9, "mouthStretch": 0.4},
    "talk": {"jawOpen": 0.4, "mouthFunnel": 0.4, "mouthLowerDown": 0.5, "mouthShrugUpper": 0.4},
    "open": {"jawOpen": 0.9, "mouthStretch": 0.3, "browInnerUp": 0.4},
    "surprise": {"jawOpen": 0.5, "eyeWide": 0.9, "browInnerUp": 0.9, "browOuterUp": 0.9},
    "stern": {"browDown": 0.7, "mouthPress": 0.6, "mouthFrown": 0.5, "eyeSquint": 0.4},
    "sad": {"browInnerUp": 0.8, "mouthFrown": 0.7, "mouthShrugLower": 0.5},
    "disgust": {"noseSneer": 0.7, "mouthUpperUp": 0.5, "browDown": 0.5, "eyeSquint": 0.5},
    "kiss": {"mouthPucker": 0.9},
    "effort": {"mouthStretch": 0.7, "mouthLowerDown": 0.6, "jawOpen": 0.3, "browDown": 0.5},
}  # fmt: skip
# People smile at cameras: the first three make up half.
OFTEN = np.array([5, 5, 4, *[14 / 8] * 8]) / 28
# Opposite to the jaw (mouthClose), or without effect here (tongueOut): not for random mixtures.
LEFT_OUT = ("mouthClose", "tongueOut", "eyeBlink", "eyeLook", "jawOpen")


@dataclass(frozen=True)
class RealCodes:
    """Codes that a network read off photographs."""

    codes: Float32[np.ndarray, "photos size"]
    model: dict[str, str]


class CodeSampler:
    """Draws the codes of a configuration for a face model."""

    def __init__(self, config: SynthConfig, model: FaceModel):
        self.config, self.model = config, model
        self.real = None if config.codes is None else read_codes(config.codes, model)
        self.units = FaceUnits.of(model) if model.unit_names else None
        landmarks, some = model.landmarks_68, model.frontal.nonzero()[::SKIN, 0]
        self._skin = (
            model.mean_reflectance[some].double().numpy(),
            model.reflectance_basis[some].double().numpy(),
        )
        self._mean, self._shape, self._expression = (
            tensor[landmarks].double().numpy()
            for tensor in (model.mean_shape, model.shape_basis, model.expression_basis)
        )

    def __call__(self, i: int, person: int) -> tuple[Code, Camera]:
        """Code (a batch of one) and camera of picture `i`, which shows this person."""
        config, layout = self.config, self.model.layout
        who = np.random.default_rng([config.seed, PERSON, person])
        alpha = config.people.shape * who.standard_normal(layout.shape)
        beta = config.people.reflectance * who.standard_normal(layout.reflectance)
        rng = np.random.default_rng([config.seed, FACE, i])
        real = self._real_code(rng) if rng.random() < config.codes_rate else None
        delta = self._expression_code(rng) if real is None else self._like(real, rng)
        delta = self._lips_apart(alpha, delta)
        camera = _camera(config.pose, rng)
        if real is None:
            rotation, light = _turn(config.pose, rng), random_light(config.light, rng)
            light = exposed(light, config.light, rng)
        else:
            rotation = real.rotation.numpy() + 0.05 * rng.standard_normal(3)
            light = total_of(real.gamma.numpy()) * np.exp(0.08 * rng.normal() + 0.03 * rng.standard_normal(3))
            light = never_negative(light + 0.03 * rng.standard_normal((9, 1)), config.light.darkest)
        light = not_blown_out(light, self._bright_skin(beta), config.light.brightest)
        translation = self._place(alpha, rotation, camera, rng)
        parts = dict(
            alpha=alpha,
            delta=delta,
            beta=beta,
            rotation=rotation,
            translation=translation,
            gamma=gamma_of(light),
        )
        return Code(
            **{name: torch.from_numpy(p.astype(np.float32))[None] for name, p in parts.items()}
        ), camera

    def _bright_skin(self, beta: np.ndarray) -> Float[np.ndarray, "3"]:
        """Reflectance that a tenth of the face exceeds, RGB."""
        return np.quantile(self._skin[0] + self._skin[1] @ beta, 0.9, axis=0)

    def _real_code(self, rng: np.random.Generator) -> Code | None:
        if self.real is None:
            return None
        return self.model.layout.unpack(torch.from_numpy(self.real.codes[rng.integers(len(self.real.codes))]))

    def _like(self, real: Code, rng: np.random.Generator) -> np.ndarray:
        """The expression of a photograph, somewhat changed."""
        spread = 0.75 * self.config.people.expression
        return real.delta.double().numpy() * rng.uniform(0.8, 1.3) + spread * rng.standard_normal(
            len(real.delta)
        )

    def _expression_code(self, rng: np.random.Generator) -> np.ndarray:
        people, size = self.config.people, self.model.layout.expression
        delta = people.expression * np.clip(rng.standard_normal(size), -2.5, 2.5)
        return delta if self.units is None else delta + self.units.delta(self._weights(rng))

    def _weights(self, rng: np.random.Generator) -> Float[np.ndarray, "units"]:
        """Weights of the named units: a known expression, a few units at random, the eyes' look and blinks."""
        assert self.units is not None
        people, strength = self.config.people, {}
        if rng.random() >= people.neutral_rate:
            chosen = EXPRESSIONS[str(rng.choice(list(EXPRESSIONS), p=OFTEN))]
            force = rng.uniform(0.2, 1.0)
            strength = {name: force * most * rng.uniform(0.6, 1.2) for name, most in chosen.items()}
            for name in self.units.names:
                if rng.random() < 0.08 and not name.startswith(LEFT_OUT):
                    strength[name] = strength.get(name, 0.0) + 0.5 * rng.random()
        if rng.random() < people.blink_rate:
            strength["eyeBlink"] = rng.uniform(0.6, 1.0)
        across, up = rng.normal(0, 0.25, 2)
        look = {"eyeLookInLeft": across, "eyeLookOutRight": across, "eyeLookOutLeft": -across,
                "eyeLookInRight": -across, "eyeLookUp": up, "eyeLookDown": -up}  # fmt: skip
        strength |= {name: value for name, value in look.items() if value > 0}
        sides = dict(zip(("Left", "Right"), 1 + people.asymmetry * rng.uniform(-1, 1, 2), strict=True))
        weights = np.zeros(len(self.units.names))
        for k, name in enumerate(self.units.names):
            both, side = next(((name.removesuffix(s), s) for s in sides if name.endswith(s)), (name, ""))
            weights[k] = strength.get(name, strength.get(both, 0.0)) * sides.get(side, 1.0)
        return weights.clip(0.0, 1.0)

    def _lips_apart(self, alpha: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """The expression with the jaw opened as far as lips would overlap."""
        if self.units is None or "jawOpen" not in self.units.names:
            return delta
        upper, lower = (list(side) for side in zip(*INNER_LIPS, strict=True))
        opening = self.units.U[self.units.names.index("jawOpen")]

        def gap(coefficients: np.ndarray, basis: np.ndarray) -> np.ndarray:
            return (basis[upper, 1] - basis[lower, 1]) @ coefficients

        apart = (self._mean[upper, 1] - self._mean[lower, 1]) + gap(alpha, self._shape)
        apart += gap(delta, self._expression)
        opened = gap(opening, self._expression)
        return delta + max(0.0, float((-apart / np.maximum(opened, 1e-3)).max())) * opening

    def _place(
        self, alpha: np.ndarray, rotation: np.ndarray, camera: Camera, rng: np.random.Generator
    ) -> np.ndarray:
        """Where the crop rule leaves a head: its size in the crop is the average one, its middle lies at the centre,
        up to the rule's errors."""
        pose, neutral = self.config.pose, self._mean + self._shape @ alpha
        own, average = _middle_and_size(neutral), _middle_and_size(self._mean)
        farther = own[1] / average[1] * np.exp(pose.size * np.clip(rng.normal(), -2.5, 2.5))
        turn, _ = extrinsics(rotation_matrix(torch.from_numpy(rotation)), torch.zeros(3).double(), camera)
        # The middle of this face should be seen where that of the average one would be, not at the camera's axis.
        R = turn.numpy()
        off = R @ (own[0] - farther * average[0])
        shift = pose.shift * np.clip(rng.standard_normal(2), -2.5, 2.5) * camera.distance / camera.focal
        shift[0] += AHEAD * R[0, 2]
        return np.array([*(farther * shift - off[:2]), (farther - 1) * camera.distance - off[2]])


def _middle_and_size(landmarks: Float[np.ndarray, "68 3"]) -> tuple[np.ndarray, float]:
    """The middle between brows and chin (mm) and the spread of a face's landmarks (mm)."""
    middle = (landmarks[BROWS].mean(0) + landmarks[CHIN]) / 2
    spread = np.sqrt(landmarks.var(0).sum())
    return middle, float(spread)


def _camera(pose: Pose, rng: np.random.Generator) -> Camera:
    """The camera of a picture: from one distance to another, the face keeping its size."""
    low, high = np.log(pose.focal_low), np.log(pose.focal_high)
    focal = float(np.exp(rng.uniform(low, high))) if low < high else pose.focal_low
    return Camera(focal=focal, distance=focal * Camera().distance / Camera().focal)


def _turn(pose: Pose, rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """The rotation vector of a head that turns, then nods, then tilts."""
    wide, uniform, gaussian = rng.random() < pose.wide_rate, rng.uniform(-1, 1), rng.normal()
    yaw = pose.yaw_limit * uniform if wide else np.clip(pose.yaw * gaussian, -pose.yaw_limit, pose.yaw_limit)
    pitch, roll = np.clip(rng.normal(size=2), -3, 3) * (pose.pitch, pose.roll)
    matrices = [
        cv2.Rodrigues(np.radians(a) * np.eye(3)[axis])[0] for axis, a in ((1, yaw), (0, pitch), (2, roll))
    ]
    return cv2.Rodrigues(matrices[0] @ matrices[1] @ matrices[2])[0].ravel()


@torch.no_grad()
def codes_of_corpus(autoencoder: Autoencoder, corpus: CorpusSplit, batch: int = 32) -> RealCodes:
    """What a trained network reads off the photographs of a corpus."""
    model, codes = autoencoder.decoder.model, []
    for first in range(0, len(corpus), batch):
        indices = list(range(first, min(first + batch, len(corpus))))
        code, _ = autoencoder(make_batch(corpus, indices, NO_AUGMENTATION, [0]).image)
        codes.append(model.layout.pack(code).float().cpu().numpy())
    return RealCodes(np.concatenate(codes), model_identity(model))


def write_codes(path: Path, real: RealCodes) -> None:
    """Write codes as a NumPy archive: `codes`, and the face model's `name`, `version` and `digest`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        arrays: dict[str, Any] = {name: np.array(value) for name, value in real.model.items()}
        np.savez_compressed(file, codes=real.codes, **arrays)


def read_codes(path: Path, model: FaceModel) -> RealCodes:
    """Codes of such a file; CorpusError where they are missing, damaged, or of another face model."""
    try:
        with np.load(path, allow_pickle=False) as file:
            real = RealCodes(
                np.asarray(file["codes"], np.float32),
                {name: str(file[name]) for name in ("name", "version", "digest")},
            )
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise CorpusError(
            f"{path} holds no codes that can be read ({error}); make it with `mofaface synth-codes`."
        ) from None
    if (
        real.model["digest"] != model.digest
        or real.codes.ndim != 2
        or real.codes.shape[1] != model.layout.size
    ):
        raise CorpusError(
            f"{path} holds codes of face model '{real.model['name']}' version {real.model['version']} (digest "
            f"{real.model['digest'][:8]}), and '{model.name}' version {model.version} ({model.digest[:8]}) is "
            "rendered; make new ones with `mofaface synth-codes`."
        )
    if not len(real.codes) or not np.isfinite(real.codes).all():
        raise CorpusError(f"{path} holds no finite codes; make it again with `mofaface synth-codes`.")
    return real
