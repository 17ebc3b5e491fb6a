"""Errors against scans: laid on by landmarks and iterated closest points, or compared place by place.

Nearest points flatter: a nose in the wrong place still has some surface near it, and methods are ranked wrongly (Chai et
al. 2022). Beside the distances to the surface stands therefore the distance between places that correspond: the estimate is
bent onto the scan, held by the landmarks, which tells every vertex its place there.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from mofaface.face_models.registration import RegistrationConfig, register, similarity
from mofaface.face_models.surface import Surface, closest_points

# Which of the 68 landmarks a list of so many stands for. Seven: eye corners, base of the nose, corners of the mouth.
LISTS: dict[int, tuple[int, ...]] = {
    68: tuple(range(17, 68)),
    51: tuple(range(17, 68)),
    7: (36, 39, 42, 45, 33, 48, 54),
}
Alignment = Literal["rigid", "scaled"]
ALIGNMENTS: tuple[Alignment, ...] = ("rigid", "scaled")


@dataclass(frozen=True)
class ScanConfig:
    """How an estimate is laid onto a scan; lengths in mm."""

    radius: float = 95.0
    """What of the scan lies farther from the tip of the nose is no face."""
    rounds: int = 40
    """Most rounds of closest points."""
    points: int = 4000
    """So many of the scan's points decide the alignment; all of them are measured."""
    registration: RegistrationConfig = RegistrationConfig(
        stiffness=(40.0, 20.0, 10.0, 6.0, 4.0), rounds=2, landmarks=(400.0, 100.0)
    )
    """How the estimate is bent: it starts close, so few steps do, and only landmarks can tell that a face slid."""


@dataclass(frozen=True)
class Placed:
    """An estimate laid onto a scan."""

    positions: Float[np.ndarray, "vertices 3"]
    """The estimate's vertices in the scan's frame, mm."""
    scale: float
    distance: Float[np.ndarray, "points"]
    """From every point of the scan's face to the estimate's surface, mm."""


@dataclass(frozen=True)
class ScanErrors:
    """What one scan says of one estimate."""

    face: Bool[np.ndarray, "scan"]
    """The scan's vertices that are measured."""
    weight: Float[np.ndarray, "points"]
    """Their areas, mm²: a scan's vertices need not be spread evenly."""
    placed: dict[Alignment, Placed]
    corresponding: dict[Alignment, Float[np.ndarray, "found"]]
    """Distances between corresponding places, mm."""
    found: Int[np.ndarray, "found"]
    """The vertices (among those of the coarse mesh) that have a place on the scan."""

    def plain(self) -> dict[str, Any]:
        """Means, medians and 90 % quantiles, mm, by measure."""
        surface = {
            f"surface_{name}": statistics(p.distance, self.weight) | {"scale": p.scale}
            for name, p in self.placed.items()
        }
        places = {f"places_{name}": statistics(d, np.ones(len(d))) for name, d in self.corresponding.items()}
        return surface | places


def statistics(
    distance: Float[np.ndarray, "points"], weight: Float[np.ndarray, "points"]
) -> dict[str, float]:
    """Weighted mean, median and 90 % quantile, in the unit of the distance."""
    order = np.argsort(distance)
    share = np.cumsum(weight[order]) / weight.sum()
    at = {
        name: float(distance[order][np.searchsorted(share, q)]) for name, q in (("median", 0.5), ("p90", 0.9))
    }
    return {"mean": float(np.average(distance, weights=weight))} | at


def scan_errors(
    estimate: Surface,
    rows: Int[np.ndarray, "coarse"],
    coarse_triangles: Int[np.ndarray, "faces 3"],
    landmarks_68: Int[np.ndarray, "68"],
    scan: Surface,
    scan_landmarks: Float[np.ndarray, "k 3"],
    config: ScanConfig | None = None,
) -> ScanErrors:
    """The errors of an estimate on a scan (mm).

    `rows` are the estimate's vertices that are bent onto the scan, with `coarse_triangles` between them; `landmarks_68` are
    vertices of the estimate, and among `rows`. Raises ValueError for a list of landmarks that is not known.
    """
    config = config or ScanConfig()
    if len(scan_landmarks) not in LISTS:
        raise ValueError(
            f"a scan's landmarks are {', '.join(map(str, LISTS))} points; got {len(scan_landmarks)}"
        )
    marks = landmarks_68[list(LISTS[len(scan_landmarks)])]
    given = scan_landmarks[17:] if len(scan_landmarks) == 68 else scan_landmarks
    start = {
        name: similarity(estimate.positions[marks], given, scaled=name == "scaled") for name in ALIGNMENTS
    }
    s, R, t = start["scaled"]
    tip = s * R @ estimate.positions[landmarks_68[30]] + t
    face = _face_of(scan, tip, config)
    area = vertex_areas(scan)[face]
    placed = {
        name: _place(estimate, scan.positions[face], area, values, name == "scaled", config)
        for name, values in start.items()
    }
    bent = Surface(estimate.positions[rows], coarse_triangles)
    place_of = {int(row): place for place, row in enumerate(rows)}
    numbers = np.array([place_of[int(m)] for m in marks])
    found, places = _correspondences(bent, numbers, scan, given, tip, config)
    corresponding = {}
    for name in ALIGNMENTS:
        s, R, t = similarity(estimate.positions[rows[found]], places, scaled=name == "scaled")
        moved = s * estimate.positions[rows[found]] @ R.T + t
        corresponding[name] = np.linalg.norm(moved - places, axis=1)
    return ScanErrors(face, area, placed, corresponding, found)


def _face_of(scan: Surface, tip: Float[np.ndarray, "3"], config: ScanConfig) -> Bool[np.ndarray, "scan"]:
    """The scan's vertices that are measured; ValueError where there are next to none."""
    used = np.zeros(len(scan.positions), bool)
    used[scan.triangles] = True
    face = used & (np.linalg.norm(scan.positions - tip, axis=1) < config.radius)
    if face.sum() < 100:
        raise ValueError(
            f"only {face.sum()} of the scan's vertices lie within {config.radius:g} mm of the nose; "
            "check its unit and its landmarks"
        )
    return face


def vertex_areas(surface: Surface) -> Float[np.ndarray, "vertices"]:
    """A third of the areas of a vertex' triangles, mm²."""
    a, b, c = (surface.positions[surface.triangles[:, k]] for k in range(3))
    third = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(surface.triangles.ravel(), np.repeat(third, 3), minlength=len(surface.positions))


def _place(
    estimate: Surface,
    points: Float[np.ndarray, "points 3"],
    area: Float[np.ndarray, "points"],
    start: tuple[float, np.ndarray, np.ndarray],
    scaled: bool,
    config: ScanConfig,
) -> Placed:
    """Iterated closest points, the step by the distance to the tangent plane (Chen and Medioni 1991)."""
    s, R, t = start
    chosen = np.linspace(0, len(points) - 1, min(config.points, len(points))).round().astype(int)
    some, weight = points[chosen], area[chosen]
    best = np.inf
    for _ in range(config.rounds):
        surface = Surface(s * estimate.positions @ R.T + t, estimate.triangles)
        near, distance = closest_points(some, surface)
        error = float(np.average(distance, weights=weight))
        if error > best - 1e-5:
            break
        best = error
        foot = near.carry(surface.positions, surface.triangles)
        a, b, c = (surface.positions[surface.triangles[near.triangle][:, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
        # Hair and collars would pull the face away: what lies far counts less.
        trust = weight / np.maximum(1.0, distance / max(3 * float(np.median(distance)), 1e-9))
        grow, turn, shift = _step(foot, normal, some, trust, scaled)
        s, R, t = grow * s, turn @ R, grow * turn @ t + shift
    surface = Surface(s * estimate.positions @ R.T + t, estimate.triangles)
    return Placed(surface.positions, s, closest_points(points, surface)[1])


def _step(
    foot: np.ndarray, normal: np.ndarray, target: np.ndarray, weight: np.ndarray, scaled: bool
) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation and shift that bring the planes at `foot` to the targets, for small angles."""
    middle = np.average(foot, axis=0, weights=weight)
    arm = foot - middle
    columns = [np.cross(arm, normal), normal] + ([(arm * normal).sum(1, keepdims=True)] if scaled else [])
    A, root = np.concatenate(columns, axis=1), np.sqrt(weight)
    gap = ((target - foot) * normal).sum(1)
    x = np.linalg.lstsq(A * root[:, None], gap * root, rcond=None)[0]
    angle = np.linalg.norm(x[:3])
    K = np.cross(np.eye(3), x[:3] / max(float(angle), 1e-12))
    turn = np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K
    grow = 1.0 + float(x[6]) if scaled else 1.0
    return grow, turn, middle + x[3:6] - grow * turn @ middle


def _correspondences(
    bent: Surface,
    marks: Int[np.ndarray, "k"],
    scan: Surface,
    given: Float[np.ndarray, "k 3"],
    tip: Float[np.ndarray, "3"],
    config: ScanConfig,
) -> tuple[Int[np.ndarray, "found"], Float[np.ndarray, "found 3"]]:
    """Vertices that have a place on the scan's face when the mesh is bent onto it, and these places."""
    # Landmarks need not be vertices of the scan: they are added to it as points of their own.
    target = Surface(np.concatenate([scan.positions, given]), scan.triangles)
    numbers = len(scan.positions) + np.arange(len(given))
    result = register(bent, target, marks, numbers, config.registration)
    places = result.correspondence.carry(target.positions, target.triangles)
    near = np.linalg.norm(places - tip, axis=1) < config.radius
    found = np.flatnonzero(result.correspondence.found & near)
    if len(found) < 100:
        raise ValueError(
            f"only {len(found)} places of the face were found on the scan; check its landmarks and its unit"
        )
    return found, places[found]
