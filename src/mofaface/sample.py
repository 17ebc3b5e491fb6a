"""Random faces of a face model: the picture by which one judges whether they look like people."""

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.code import Code
from mofaface.decoder import Decoder
from mofaface.face_model import FaceModel
from mofaface.harmonics import harmonics
from mofaface.pictures import Picture, contact_sheet, save_picture, surface

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


def sample_sheet(model: FaceModel, n: int, seed: int, out: Path) -> Path:
    """Write a sheet of `n` random faces and return its path."""
    if n < 1:
        raise ValueError(f"a sheet shows at least one face, got {n}; give a larger --n")
    generator = torch.Generator().manual_seed(seed)
    decoder = Decoder(model)
    faces = [draw_face(decoder, random_face(model, generator)) for _ in range(n)]
    rows = [faces[first : first + ACROSS] for first in range(0, n, ACROSS)]
    return save_picture(out, contact_sheet(rows))
