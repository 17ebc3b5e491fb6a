"""Which points of the detector's mesh lie where annotators have the usual landmarks: how MESH_OF_68 was chosen.

    python -m mofaface.facemesh_markup youtube_faces_68_points_automatic.csv youtube_faces.tar CORPUS [SHIFT]

Brows, nose and outer lips are curves, and where along them a point lies is a convention. For each landmark on them those
one, two or three mesh points are chosen (one may count twice) whose mean is nearest to the annotation, of faces turned
upright and over the distance of the outer eye corners; both sides of the face are taken together, as mirror images.
Corners, lids and the nose's tip stay the detector's. Only photographs of a corpus' training people are looked at.
"""

import sys
from collections.abc import Iterator
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from mofaface.corpus import load_corpus
from mofaface.detection import detect_faces
from mofaface.evaluation.points import Points, annotated_photos, eye_line, only_in, read_points
from mofaface.facemesh import MESH_OF_68, find_mesh
from mofaface.landmarks import LANDMARK_NAMES, MIRROR_68

CURVES = (*range(17, 30), *range(31, 36), *range(49, 54), *range(55, 60))
NEIGHBOURS = 10
# A list must be nearer by so much, in eye distances, than a shorter one or a landmark's present one, to be worth it.
GAIN = 0.002
Meshes = Float[np.ndarray, "faces 478 3"]


def upright_faces(
    points: dict[str, Points], images: Path
) -> Iterator[tuple[Float[np.ndarray, "478 3"], Points]]:
    """Mesh and annotation of every annotated photo with a face; of several faces, of the nearest."""
    for name, photo in annotated_photos(points, images):
        truth = points[name]
        meshes = [] if photo is None else [find_mesh(photo, box) for box in detect_faces(photo).faces]
        if not meshes:
            continue
        mesh = min(meshes, key=lambda mesh: float(np.abs(mesh.landmarks_68 - truth).mean()))
        x, y = eye_line(truth)
        turn = np.array([[x, -y], [y, x]]) / (x * x + y * y)
        middle = truth[[36, 45]].mean(0)
        depth = mesh.points[:, 2:] / np.hypot(x, y)
        yield np.hstack(((mesh.points[:, :2] - middle) @ turn, depth)), (truth - middle) @ turn


def mirror_of(meshes: Meshes) -> Int[np.ndarray, "478"]:
    """For each mesh point the one on the other side of the average face."""
    mean = np.median(meshes, axis=0)
    return np.asarray(cKDTree(mean).query(mean * [-1, 1, 1])[1])


def distance(meshes: Meshes, ids: tuple[int, ...], places: Float[np.ndarray, "faces 2"]) -> float:
    """Mean distance of the mean of mesh points from a landmark, in eye distances."""
    return float(np.linalg.norm(meshes[:, list(ids), :2].mean(1) - places, axis=1).mean())


def best_points(
    meshes: Meshes, places: Float[np.ndarray, "faces 2"], own: tuple[int, ...]
) -> tuple[int, ...]:
    """The list of mesh points nearest to a landmark; a longer one, or another than its `own`, only if that is worth it."""
    apart = np.median(meshes[..., :2], 0) - np.median(places, 0)
    near = [int(i) for i in np.argsort(np.linalg.norm(apart, axis=1))[:NEIGHBOURS]]
    best, least = own, distance(meshes, own, places)
    for count in (1, 2, 3):
        lists = [ids for ids in combinations_with_replacement(near, count) if len(set(ids)) == min(count, 2)]
        ids = min(lists, key=lambda ids: distance(meshes, ids, places))
        if distance(meshes, ids, places) < least - GAIN:
            best, least = ids, distance(meshes, ids, places)
    return tuple(sorted(best))


def main() -> None:
    """Print for each landmark on a curve its list now, the best one, and the distances of both in per cent."""
    csv, images, corpus, *shift = sys.argv[1:]
    points = read_points(Path(csv), float(shift[0]) if shift else 0.0)
    found = list(upright_faces(only_in(points, load_corpus(Path(corpus), "train")), Path(images)))
    meshes, marks = (np.stack(part) for part in zip(*found, strict=True))
    mirror = mirror_of(meshes)
    both = np.concatenate((meshes, meshes[:, mirror] * [-1, 1, 1]))
    print(f"{len(meshes)} faces")
    for point in (point for point in CURVES if point <= MIRROR_68[point]):
        places = np.concatenate((marks[:, point], marks[:, MIRROR_68[point]] * [-1, 1]))
        own = MESH_OF_68[point]
        best = best_points(both, places, own)
        now, then = (100 * distance(both, ids, places) for ids in (own, best))
        other = tuple(int(mirror[i]) for i in best)
        print(f"{point} {LANDMARK_NAMES[point]:14s} {own} {now:.2f} -> {best} {then:.2f}, mirrored {other}")


if __name__ == "__main__":
    main()
