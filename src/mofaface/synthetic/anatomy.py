"""What a face model lacks: the rest of the head, attached to the rim of its surface, and the inside of the mouth.

All of it is decoration, made so that pictures look like photographs of people; codes know nothing of it.
"""

from collections import defaultdict

import numpy as np
from jaxtyping import Float, Int64, Integer

from mofaface.face_model import FaceModel
from mofaface.synthetic.pieces import Piece, ball, directions, sheet, smoothstep, unit

# The middle of the average head, mm above and behind the origin, and how far its back lies behind that.
CENTRE = np.array([0.0, 40.0, -72.0])
SKULL_UP, SKULL_BACK = 97.0, 102.0
RINGS = 12
# A map of the head's radius by direction, for what is worn on it.
AZIMUTHS, ELEVATIONS = 120, 64
LOWEST = np.radians(-70.0)
INNER_LIPS = slice(60, 68)


class Anatomy:
    """The loops of a face model to which things are attached; the same for all its faces."""

    def __init__(self, model: FaceModel):
        self.landmarks = model.landmarks_68.numpy()
        mean = model.mean_shape.double().numpy()
        loops = sorted(
            boundary_loops(model.triangles.numpy()), key=lambda loop: -np.ptp(mean[loop], axis=0).max()
        )
        self.rim = (
            loops[0][:: max(1, len(loops[0]) // 110)]
            if loops and len(loops[0]) >= 8
            else np.empty(0, np.int64)
        )
        mouth = mean[self.landmarks[INNER_LIPS]].mean(0)
        near = [
            loop for loop in loops[1:] if np.linalg.norm(mean[loop].mean(0) - mouth) < 25 and len(loop) >= 16
        ]
        self.mouth = near[0] if near else None
        self.neutral = (mean[self.landmarks], model.shape_basis.double().numpy()[self.landmarks])
        if len(self.rim):
            self._mean_rim = mean[self.rim].mean(0)
            self._sampled = np.arange(0, len(mean), max(1, len(mean) // 5000))
            self._nearest = self._map_of(mean)

    def centre(self, x: Float[np.ndarray, "vertices 3"]) -> Float[np.ndarray, "3"]:
        """The middle of a head, model space, mm."""
        return CENTRE + x[self.rim].mean(0) - self._mean_rim

    def skull(self, x: Float[np.ndarray, "vertices 3"]) -> Float[np.ndarray, "rings rim 3"]:
        """The back of the head as rings of points, beginning with the rim of the face."""
        centre, rim = self.centre(x), x[self.rim]
        out = rim - centre
        radius = np.linalg.norm(out, axis=-1)
        start = out / radius[:, None]
        angle = np.arccos(np.clip(-start[:, 2], -1, 1))
        across = unit(np.array([0.0, 0.0, -1.0]) + start * start[:, 2:])
        s = np.linspace(0, 1, RINGS)[:, None]
        turned = np.cos(s * angle)[..., None] * start + np.sin(s * angle)[..., None] * across
        half_width = np.abs(rim[:, 0] - centre[0]).max() + 2
        skull = 1 / np.linalg.norm(turned / (half_width, SKULL_UP, SKULL_BACK), axis=-1)
        blend = smoothstep(s / 0.45)
        return centre + turned * ((1 - blend) * radius + blend * skull)[..., None]

    def radii(self, x: Float[np.ndarray, "vertices 3"]) -> Float[np.ndarray, "elevations azimuths"]:
        """The head's radius about its centre, mm, by direction."""
        return np.linalg.norm(self._surface(x) - self.centre(x), axis=-1)[self._nearest]

    def _surface(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate((x[self._sampled], self.skull(x)[1:].reshape(-1, 3)))

    def _map_of(self, mean: np.ndarray) -> Int64[np.ndarray, "elevations azimuths"]:
        surface = unit(self._surface(mean) - self.centre(mean))
        elevation = np.linspace(LOWEST, np.pi / 2, ELEVATIONS)
        azimuth = np.arange(AZIMUTHS) * 2 * np.pi / AZIMUTHS
        return np.stack(
            [(directions(azimuth, np.full(AZIMUTHS, e)) @ surface.T).argmax(1) for e in elevation]
        )


def boundary_loops(triangles: Integer[np.ndarray, "triangles 3"]) -> list[Int64[np.ndarray, "_"]]:
    """The open edges of a mesh, as loops of vertices in order."""
    edges = np.concatenate([triangles[:, [k, (k + 1) % 3]] for k in range(3)]).astype(np.int64)
    _, place, count = np.unique(np.sort(edges, 1), axis=0, return_index=True, return_counts=True)
    following: dict[int, list[int]] = defaultdict(list)
    for a, b in edges[place[count == 1]].tolist():
        following[a].append(b)
    loops = []
    while following:
        start = next(iter(following))
        loop = [start]
        while following.get(loop[-1]):
            following[loop[-1]], nexts = following[loop[-1]][:-1], following[loop[-1]]
            if not following[loop[-1]]:
                del following[loop[-1]]
            if nexts[-1] == start:
                break
            loop.append(nexts[-1])
        following.pop(start, None)
        loops.append(np.array(loop))
    return loops


def head_pieces(
    anatomy: Anatomy,
    x: Float[np.ndarray, "vertices 3"],
    n: Float[np.ndarray, "vertices 3"],
    skin: Float[np.ndarray, "vertices 3"],
    rng: np.random.Generator,
) -> list[Piece]:
    """Skull, ears, neck and clothed shoulders of a face with places x, normals n and reflectance `skin`."""
    rings, centre = anatomy.skull(x), anatomy.centre(x)
    rim_skin = skin[anatomy.rim]
    mean_skin = np.clip(rim_skin.mean(0), 0.03, 1)
    s = np.linspace(0, 1, RINGS)[:, None, None]
    back = sheet(rings, rim_skin * (1 - smoothstep(2 * s)) + mean_skin * smoothstep(2 * s), True, centre)
    back.n[: len(anatomy.rim)] = n[anatomy.rim]  # no seam where head and face meet
    half_width = float(np.abs(x[anatomy.rim, 0]).max())
    ears = [_ear(centre, side, half_width, mean_skin, rng) for side in (-1, 1)]
    return [back, *ears, _neck(centre, half_width, mean_skin, rng), _shoulders(centre, rng)]


def _ear(
    centre: np.ndarray, side: int, half_width: float, skin: np.ndarray, rng: np.random.Generator
) -> Piece:
    place = centre + (side * (half_width + 1.5), -6 + 3 * rng.normal(), 6)
    ear = ball(place, np.array([8.0, 30.0, 17.0]), skin * (1.02, 0.95, 0.93), 14, 20)
    x = ear.x - place
    # Leaning back and standing out at the rear, with a shallow bowl.
    x = np.stack((x[:, 0] - side * 0.35 * x[:, 2], x[:, 1], x[:, 2] - 0.25 * x[:, 1]), -1)
    bowl = np.exp(-(((x[:, 1] - 2) / 12) ** 2) - (x[:, 2] / 7) ** 2)[:, None]
    return Piece(x + place, ear.n, ear.reflectance * (1 - 0.35 * bowl), ear.triangles)


def _neck(centre: np.ndarray, half_width: float, skin: np.ndarray, rng: np.random.Generator) -> Piece:
    down = np.linspace(0, 1, 12)[:, None]
    turn = np.arange(32)[None] * 2 * np.pi / 32
    wide = half_width * (rng.uniform(0.66, 0.80) + 0.14 * smoothstep((down - 0.25) / 0.6))
    x = np.stack(
        (wide * np.sin(turn), -55 - 110 * down + 0 * turn, -8 - 18 * down + (54 + 4 * down) * np.cos(turn)), -1
    ) + centre  # fmt: skip
    # The chin's shadow, which nine harmonics cannot cast.
    shadow = 1 - 0.42 * np.exp(-(((down - 0.2) / 0.3) ** 2))
    return sheet(
        x, (shadow * np.ones_like(turn))[..., None] * skin * (0.97, 0.95, 0.95), True, centre - (0, 110, 8)
    )


def _shoulders(centre: np.ndarray, rng: np.random.Generator) -> Piece:
    """Shoulders in a garment, perhaps open over a shirt, perhaps with a tie."""
    middle = centre + (0.0, -235 + 10 * rng.normal(), -22)
    radii = np.array([rng.uniform(190, 240), rng.uniform(95, 115), 105])
    elevation, azimuth = np.linspace(-0.2, np.pi / 2 - 1e-3, 28), np.arange(72) * 2 * np.pi / 72
    x = middle + radii * directions(azimuth[None], elevation[:, None])
    cloth, shirt, tie = (rng.uniform(0.03, 0.9) * (0.7 + 0.3 * rng.random(3)) for _ in range(3))
    colours = np.broadcast_to(cloth, x.shape) * (1 + 0.08 * rng.standard_normal((28, 72, 1)))
    if rng.random() < 0.6:
        across = np.abs(x[..., 0] - centre[0]) / (1 + 0.6 * np.maximum(0, x[..., 1] - middle[1]))
        front = x[..., 2] > centre[2] - 30
        colours = np.where((front & (across < 0.55))[..., None], np.clip(shirt + 0.25, 0, 0.95), colours)
        if rng.random() < 0.5:
            colours = np.where((front & (np.abs(x[..., 0] - centre[0]) < 9))[..., None], tie, colours)
    return sheet(x, np.clip(colours, 0, 1), True, middle)


def mouth_pieces(
    anatomy: Anatomy,
    x: Float[np.ndarray, "vertices 3"],
    alpha: Float[np.ndarray, "shape"],
    rng: np.random.Generator,
) -> list[Piece]:
    """The inside of the mouth: a dark hollow behind the lips and two rows of teeth."""
    if anatomy.mouth is None:
        return []
    loop = x[anatomy.mouth]
    depth = np.linspace(0, 1, 5)[:, None, None]
    inner = loop.mean(0) - (0, 0, 24)
    hollow = loop + depth * (inner - loop) * (0.75, 0.75, 1.0)
    colour = np.array([0.30, 0.10, 0.09]) * rng.uniform(0.6, 1.2) * (1 - 0.85 * depth)
    cavity = sheet(hollow, colour, True)
    if cavity.n[:, 2].mean() < 0:
        cavity = Piece(cavity.x, -cavity.n, cavity.reflectance, cavity.triangles[:, ::-1].copy())
    mean, basis = anatomy.neutral
    neutral = mean + basis @ alpha
    moved = x[anatomy.landmarks] - neutral
    lip = (neutral[62] + neutral[66]) / 2
    white = np.array([0.84, 0.78, 0.69]) * rng.uniform(0.75, 1.08)
    half = 0.42 * float(np.linalg.norm(neutral[54] - neutral[48]))
    upper = _teeth(lip, half, (8.0, -2.5), white)
    lower = _teeth(lip - (0, 0, 1.5) + moved[8] * (1, 1, 0.6), 0.9 * half, (-2.2, -9.5), 0.92 * white)
    return [cavity, upper, lower]


def _teeth(lip: np.ndarray, half: float, span: tuple[float, float], white: np.ndarray) -> Piece:
    """A row of teeth on an arch behind the lips, from one height to another (mm over the neutral lips' line)."""
    across = np.linspace(-1, 1, 49)[None]
    down = np.linspace(0, 1, 4)[:, None]
    x = lip + np.stack(
        (half * across + 0 * down, span[0] + (span[1] - span[0]) * down + 0 * across, -5.5 - 15 * across**2 + 0 * down), -1
    )  # fmt: skip
    gap = np.abs(np.mod(np.abs(across) * half / 7.0 + 0.0, 1.0) - 0.5) > 0.42
    shade = (1 - 0.55 * across**2) * np.where(gap, 0.82, 1.0) * (0.85 + 0.15 * (1 - down))
    return sheet(x, np.clip(shade[..., None] * white, 0, 1))
