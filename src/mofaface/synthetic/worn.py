"""What people wear on their heads: hair, hats and glasses."""

import cv2
import numpy as np
from jaxtyping import Float

from mofaface.synthetic.anatomy import AZIMUTHS, ELEVATIONS, LOWEST, Anatomy
from mofaface.synthetic.config import Surroundings
from mofaface.synthetic.pieces import Piece, directions, sheet, smoothstep, tube, unit

HAIR = np.array(
    [(0.07, 0.06, 0.06), (0.12, 0.09, 0.08), (0.20, 0.13, 0.10), (0.33, 0.21, 0.14), (0.48, 0.33, 0.20),
     (0.68, 0.53, 0.33), (0.46, 0.20, 0.11), (0.52, 0.51, 0.50), (0.78, 0.77, 0.75)]
)  # fmt: skip
DARK_HAIR = 3
ROWS, COLUMNS = 24, 224
RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)


def hair_pieces(
    anatomy: Anatomy,
    x: Float[np.ndarray, "vertices 3"],
    skin: Float[np.ndarray, "vertices 3"],
    how: Surroundings,
    rng: np.random.Generator,
) -> list[Piece]:
    """Hair on the head, down its sides, or a hat."""
    hat, long, fringe = rng.random(3) < (how.hat_rate, how.long_hair_rate, how.fringe_rate)
    radii = cv2.blur(anatomy.radii(x).astype(np.float32), (5, 5), borderType=cv2.BORDER_REPLICATE)
    if hat:
        return [
            _cap(anatomy.centre(x), radii, _hat_colour(rng), rng.uniform(8, 22), (32, 29, 20, 16), 0.0, rng)
        ]
    dark = float(skin.mean()) < 0.42
    colour = HAIR[rng.integers(DARK_HAIR if dark and rng.random() < 0.9 else len(HAIR))]
    colour = colour * rng.uniform(0.8, 1.25)
    front = rng.uniform(22, 34) if fringe else np.clip(rng.normal(42, 6), 33, 66)
    covered = long or rng.random() < 0.2
    temple = front - rng.uniform(0, 6) if not fringe else front - 4
    sideburn = -30.0 if covered else rng.uniform(-8, 14)
    line = (front, temple + (0 if fringe else rng.uniform(-2, 8)), sideburn, -32.0)
    thickness = rng.uniform(4, 20) if rng.random() < 0.75 else rng.uniform(20, 42)
    pieces = [_cap(anatomy.centre(x), radii, colour, thickness, line, 1.0, rng)]
    if long:
        pieces.append(_curtain(anatomy, x, colour, thickness, rng))
    return pieces


def _hat_colour(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.05, 0.9) * (0.6 + 0.4 * rng.random(3))


def _cap(
    centre: np.ndarray,
    radii: np.ndarray,
    colour: np.ndarray,
    thickness: float,
    line: tuple[float, float, float, float],
    rough: float,
    rng: np.random.Generator,
) -> Piece:
    """A layer on the head above a line, given by elevations (degrees) at the front, temples, ears and nape."""
    azimuth = np.arange(COLUMNS) * 2 * np.pi / COLUMNS
    side = np.degrees(np.abs(np.angle(np.exp(1j * azimuth))))
    lowest = np.interp(
        side, (0, 48, 74, 84, 112, 180), (line[0], line[1], line[2] + 12, line[2], line[3], line[3])
    )
    # A parting: the hair lies higher on one side.
    lowest = lowest + rough * (3 * np.sin(azimuth * 2 + rng.uniform(0, 6)) + 3.0 * _strands(rng, 1)[0])
    lowest = np.radians(np.clip(lowest, -60, 84))
    up = np.linspace(0, 1, ROWS)[:, None]
    elevation = lowest + up * (np.radians(89.5) - lowest)
    rise = smoothstep((elevation - lowest) / np.radians(17)) * thickness
    waves = cv2.resize(rng.standard_normal((6, 12)), (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC)
    texture = _strands(rng, ROWS)
    radius = (
        _looked_up(radii, azimuth, elevation)
        + 2.0
        + rise * (1 + 0.22 * rough * waves)
        + 0.6 * rough * texture
    )
    x = centre + radius[..., None] * directions(azimuth[None], elevation)
    shine = 0.10 * rough * np.exp(-(((elevation - 0.95) / 0.22) ** 2))
    shade = (1 + rough * 0.42 * texture) * (0.75 + 0.25 * up)
    return sheet(x, np.clip(shade[..., None] * colour + shine[..., None] * rng.random(), 0, 1), True, centre)


def _curtain(
    anatomy: Anatomy, x: np.ndarray, colour: np.ndarray, thickness: float, rng: np.random.Generator
) -> Piece:
    """Hair that hangs down the sides and the back."""
    centre = anatomy.centre(x)
    half_width = float(np.abs(x[anatomy.rim, 0] - centre[0]).max())
    edges = np.radians(rng.uniform(58, 88, 2))
    azimuth = edges[0] + np.linspace(0, 1, COLUMNS) * (2 * np.pi - edges.sum())
    bottom = rng.choice([rng.uniform(-70, -20), rng.uniform(-170, -70)])
    texture = _strands(rng, ROWS)
    down = np.linspace(0, 1, ROWS)[:, None]
    height = 55 + (bottom - 55) * down + 3 * texture * down
    waves = rng.uniform(0, 5) * np.sin(down * rng.uniform(4, 16) + 2 * azimuth + rng.uniform(0, 6))
    swell = 1 + 0.25 * smoothstep(down) * rng.random()
    wide = (half_width + 3 + 0.5 * thickness) * swell + waves
    # Thin towards the front edge, so that it lies on the cheek.
    front = np.exp(-(np.minimum(azimuth - azimuth[0], azimuth[-1] - azimuth) / 0.25))
    wide = wide - 6 * front
    place = np.stack(
        (wide * np.sin(azimuth), height + 0 * azimuth, (98 * swell + waves) * np.cos(azimuth) - 4), -1
    )  # fmt: skip
    shade = (1 + 0.32 * texture) * (1 - 0.25 * front)
    return sheet(centre + place, np.clip(shade[..., None] * colour, 0, 1), False, centre, two_sided=True)


def _strands(rng: np.random.Generator, rows: int) -> Float[np.ndarray, "rows columns"]:
    """Noise that is fine across and long along the columns, about ±1."""
    coarse = cv2.resize(rng.standard_normal((max(1, rows // 9), COLUMNS)), (COLUMNS, rows))
    slow = cv2.resize(rng.standard_normal((max(1, rows // 9), COLUMNS // 8)), (COLUMNS, rows))
    return (np.clip(coarse, -2, 2) + np.clip(slow, -2, 2)) / 2


def _looked_up(radii: np.ndarray, azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """The head's radius in these directions."""
    around = np.concatenate((radii, radii[:, :1]), 1)
    column = azimuth / (2 * np.pi) * AZIMUTHS + 0 * elevation
    row = (elevation - LOWEST) / (np.pi / 2 - LOWEST) * (ELEVATIONS - 1)
    return cv2.remap(around, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)


def glasses_pieces(points: Float[np.ndarray, "68 3"], rng: np.random.Generator) -> list[Piece]:
    """Rims, bridge and temples of glasses before the eyes, now and then with dark glass."""
    right, left = points[RIGHT_EYE].mean(0), points[LEFT_EYE].mean(0)
    half = float(np.linalg.norm(left - right)) / 2
    wide, high = half * rng.uniform(0.66, 0.84), half * rng.uniform(0.42, 0.66)
    power, bar = rng.uniform(2.0, 4.0), rng.choice([0.6, 1.0, 1.8])
    colour = (
        np.array([0.05, 0.05, 0.06])
        if rng.random() < 0.6
        else rng.uniform(0.1, 0.7) * (0.6 + 0.4 * rng.random(3))
    )
    forward, dark = rng.uniform(11, 15), rng.random() < 0.25
    turn = np.arange(40) * 2 * np.pi / 40
    pieces = []
    for eye, side in ((right, -1), (left, 1)):
        c, s = np.cos(turn), np.sin(turn)
        superellipse = (np.abs(c) ** power + np.abs(s) ** power) ** (-1 / power)
        outline = np.stack((wide * superellipse * c, high * superellipse * s, 0 * c), -1)
        outline[:, 2] -= 0.004 * (side * outline[:, 0]).clip(0) ** 2  # bent around the face
        middle = eye + (side * 0.04 * half, -2.0, forward)
        pieces.append(tube(middle + outline, bar, colour, closed=True))
        hinge = middle + (side * wide, 0.35 * high, -0.004 * wide**2)
        ear = np.array([eye[0] + side * 1.35 * half, eye[1] + 4, eye[2] - 75])
        pieces.append(tube(hinge + np.linspace(0, 1, 6)[:, None] * (ear - hinge), bar, colour))
        if dark:
            pieces.append(_glass(middle, outline))
    nose = np.stack([right + (-0 + wide + 0.0, 1.0, forward), left + (-wide, 1.0, forward)])
    bridge = nose[0] + np.linspace(0, 1, 6)[:, None] * (nose[1] - nose[0])
    pieces.append(tube(bridge + np.sin(np.linspace(0, np.pi, 6))[:, None] * (0, 2.0, 1.0), bar, colour))
    return pieces


def _glass(middle: np.ndarray, outline: np.ndarray) -> Piece:
    grid = middle + np.array([0.02, 1.0])[:, None, None] * outline
    piece = sheet(grid, np.array([[[0.06, 0.06, 0.07]]]), True)
    if piece.n[:, 2].mean() < 0:
        return Piece(piece.x, unit(-piece.n), piece.reflectance, piece.triangles[:, ::-1].copy())
    return piece
