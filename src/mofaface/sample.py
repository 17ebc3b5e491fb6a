"""Sheets of a face model: random faces, by which one judges whether they look like people, the mean, and the modes."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.code import Code
from mofaface.decoder import Decoder
from mofaface.face_model import FaceModel
from mofaface.harmonics import harmonics
from mofaface.pictures import Picture, clay_colours, contact_sheet, save_picture, surface

ACROSS = 6
# Full-strength expressions of random signs are grimaces; half of it is a face in a conversation.
EXPRESSION = 0.5
# Standard deviations of nod, turn and tilt, radians.
POSE = (0.08, 0.22, 0.04)
# Harmonics of a clamped cosine about a direction: max(n·d, 0) ≈ Σ_b c_l H_b(d) H_b(n), one c per band.
COSINE_BANDS = (1 / 4, *[1 / 6] * 3, *[1 / 16] * 5)
DARKER_AMBIENT = -0.3
# A step back, mm, so that long and turned heads stay inside their tile.
FARTHER = 60.0
# Turns of the head, radians, from which the mean is shown: its right side is seen first.
SIDES = {"from the right": -1.2, "from the front": 0.0, "from the left": 1.2}
MODES, SIGMAS = 5, 3.0
Sheet = Literal["faces", "mean", "modes"]


def random_face(model: FaceModel, generator: torch.Generator) -> Code:
    """One random person, mildly expressive, slightly turned, under a random soft light; a batch of one."""
    layout = model.layout

    def normal(*size: int) -> Tensor:
        return torch.randn(1, *size, generator=generator)

    code = Code(
        alpha=normal(layout.shape),
        delta=EXPRESSION * normal(layout.expression),
        beta=normal(layout.reflectance),
        rotation=normal(3).clamp(-2, 2) * torch.tensor(POSE),
        translation=torch.tensor([[0.0, middle_height(model), FARTHER]]),
        gamma=random_light(generator),
    )
    return Code(**{name: part.to(model.mean_shape) for name, part in vars(code).items()})


def middle_height(model: FaceModel) -> float:
    """How far the middle of the average face lies over the model's origin, mm."""
    heights = model.mean_shape[:, 1]
    return float(heights.max() + heights.min()) / 2


def random_light(generator: torch.Generator) -> Float[Tensor, "1 9 3"]:
    """Light coefficients of weaker ambient light and one soft, nearly white light from above and in front."""
    side, tint, strength = torch.rand(3, generator=generator).tolist()
    azimuth, elevation = math.radians(120 * side - 60), math.radians(30)
    # Towards the light in camera axes: x right, y down, z away from us.
    towards = torch.tensor([math.sin(azimuth), -math.tan(elevation), -math.cos(azimuth)])
    bands = torch.tensor(COSINE_BANDS) * harmonics((towards / towards.norm())[None])[0]
    warmth = 0.08 * (tint - 0.5)
    colour = (0.6 + 0.3 * strength) * torch.tensor([1 + warmth, 1.0, 1 - warmth])
    gamma = bands[:, None] * colour
    gamma[0] += DARKER_AMBIENT
    return gamma[None]


@torch.no_grad()
def draw_face(decoder: Decoder, code: Code) -> Picture:
    """The face of a batch of one, anti-aliased, before grey."""
    face, size = decoder(code), decoder.camera.size
    uv, depth, colours = (
        part[0].cpu().numpy() for part in (face.uv_crop, face.x_camera[..., 2], face.colour)
    )
    triangles = decoder.model.triangles.cpu().numpy()
    return surface(uv, depth, triangles, colours, size, size, background=0.85)


@torch.no_grad()
def draw_clay(decoder: Decoder, code: Code) -> Picture:
    """The shape of a batch of one as grey clay, before grey."""
    face, size = decoder(code), decoder.camera.size
    clay = clay_colours(face.n_camera[0].double().cpu().numpy())
    place = face.uv_crop[0].cpu().numpy(), face.x_camera[0, :, 2].cpu().numpy()
    return surface(*place, decoder.model.triangles.cpu().numpy(), clay, size, size, background=0.85)


def plain_face(model: FaceModel) -> Code:
    """The average face under ambient light, in the middle of its tile; a batch of one."""
    zero = model.layout.zero()
    zero = replace(zero, translation=torch.tensor([[0.0, middle_height(model), FARTHER]]))
    return Code(**{name: part.to(model.mean_shape) for name, part in vars(zero).items()})


def draw_sheet(model: FaceModel, what: Sheet, out: Path, n: int = 24, seed: int = 0) -> Path:
    """Write one of the sheets and return its path."""
    if what == "faces":
        return sample_sheet(model, n, seed, out)
    return mean_sheet(model, out) if what == "mean" else modes_sheet(model, out)


def mean_sheet(model: FaceModel, out: Path) -> Path:
    """Write the average face from three sides, as it is painted and as clay, and return the path."""
    decoder, plain = Decoder(model), plain_face(model)
    turned = [replace(plain, rotation=plain.rotation.new_tensor([[0.0, yaw, 0.0]])) for yaw in SIDES.values()]
    rows = [[draw(decoder, code) for code in turned] for draw in (draw_face, draw_clay)]
    return save_picture(out, contact_sheet(rows, tuple(SIDES)))


def modes_sheet(model: FaceModel, out: Path) -> Path:
    """Write the first five modes of each kind at −3 and +3 σ, one kind in two rows, and return the path."""
    decoder, plain = Decoder(model), plain_face(model)
    rows, labels = [], []
    for kind, part, draw in (
        ("shape", "alpha", draw_clay),
        ("expression", "delta", draw_clay),
        ("reflectance", "beta", draw_face),
    ):
        count = min(MODES, getattr(model.layout, kind))
        for sigma in (-SIGMAS, SIGMAS) if count else ():
            rows.append([draw(decoder, with_mode(plain, part, mode, sigma)) for mode in range(count)])
            labels.append([f"{kind} {mode + 1}: {sigma:+.0f} s.d." for mode in range(count)])
    if not rows:
        raise ValueError("a sheet of modes needs a model with modes, this one has none")
    return save_picture(out, contact_sheet(rows, (), labels))


def with_mode(code: Code, part: str, mode: int, sigma: float) -> Code:
    """The code with one coefficient of `alpha`, `delta` or `beta` set."""
    coefficients = getattr(code, part).clone()
    coefficients[:, mode] = sigma
    return replace(code, **{part: coefficients})


def sample_sheet(model: FaceModel, n: int, seed: int, out: Path) -> Path:
    """Write a sheet of `n` random faces and return its path."""
    if n < 1:
        raise ValueError(f"a sheet shows at least one face, got {n}; give a larger --n")
    generator = torch.Generator().manual_seed(seed)
    decoder = Decoder(model)
    faces = [draw_face(decoder, random_face(model, generator)) for _ in range(n)]
    rows = [faces[first : first + ACROSS] for first in range(0, n, ACROSS)]
    return save_picture(out, contact_sheet(rows))
