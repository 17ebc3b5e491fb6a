"""Where the landmark detector sees the 68 landmarks on rendered faces of the open model, beside where the model has them.

    python -m mofaface.face_models.open_model.measure_landmarks [FILE]

`SEEN_OFFSETS` and `MARKUP_OFFSETS` were found in this way before they were part of the model.
"""

import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mofaface.detection import detect_faces
from mofaface.face_models import OPEN_MODEL
from mofaface.facemesh import find_mesh
from mofaface.landmarks import LANDMARK_NAMES, MIRROR_68
from mofaface.metrics import INNER
from mofaface.photo import Photo
from mofaface.rasterizer import rasterize
from mofaface.synthetic.config import PERFECT, People, Pose, Surroundings, SynthConfig
from mofaface.synthetic.scene import Scenes

FACES = 200
FINE = 4  # samples along a pixel's side
NEUTRAL = People(expression=0, neutral_rate=1, blink_rate=0)
FRONTAL = Pose(wide_rate=0, yaw=5, pitch=4, roll=3)
BARE = Surroundings(fringe_rate=0, glasses_rate=0, occluder_rate=0)


def seen_offsets(model: Path, faces: int = FACES) -> Float[np.ndarray, "faces 68 3"]:
    """mm on the mean face, from the model's vertices to where the detector sees the landmarks on the surface.

    NaN beside the face; a face that is not found is left out. The faces are random, neutral and seen from the front.
    """
    config = SynthConfig(
        Path(), faces, model=str(model), people=NEUTRAL, pose=FRONTAL, surroundings=BARE, degradation=PERFECT
    )
    scenes = Scenes(config)
    found = (_offsets(scenes, i) for i in range(faces))
    return np.stack([offsets for offsets in found if offsets is not None])


def symmetrical(offsets: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, "68 3"]:
    """The mean of offsets and of those of the mirrored face."""
    mirrored: Float[np.ndarray, "68 3"] = offsets[list(MIRROR_68)] * [-1, 1, 1]
    return (offsets + mirrored) / 2


def _offsets(scenes: Scenes, i: int) -> Float[np.ndarray, "68 3"] | None:
    made = scenes(i)
    photo = Photo(made.pixels, f"face {i}")
    boxes = detect_faces(photo).faces
    if not boxes:
        return None
    face = scenes.render.decode(made.code, made.camera)
    uv, depth = face.uv_crop[0].double().numpy(), face.x_camera[0, :, 2].double().numpy()
    side = FINE * made.camera.size
    seen = rasterize(FINE * uv, depth, scenes.render.triangles, side, side)
    places = find_mesh(photo, boxes[0]).landmarks_68
    column, row = np.floor(FINE * places).astype(int).clip(0, side - 1).T
    triangle = seen.triangle_index[row, column]
    corners = scenes.model.mean_shape.numpy()[scenes.render.triangles[triangle]]
    on_surface = np.einsum("nk,nkc->nc", seen.barycentric[row, column], corners)
    on_surface[triangle < 0] = np.nan
    own: Float[np.ndarray, "68 3"] = scenes.model.mean_shape.numpy()[scenes.model.landmarks_68.numpy()]
    return on_surface - own


def main() -> None:
    """Print the median offset of each landmark of the right half and the middle, and its spread."""
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else OPEN_MODEL
    offsets = seen_offsets(model)
    middle = symmetrical(np.nanmedian(offsets, axis=0))
    spread = np.linalg.norm(np.nanstd(offsets, axis=0), axis=1)
    print(f"{len(offsets)} faces; offsets in mm: towards the person's left, up, forward; spread")
    for point, mirrored in enumerate(MIRROR_68):
        if point <= mirrored:
            x, y, z = middle[point]
            print(f"{point:2d} {LANDMARK_NAMES[point]:14s} {x:5.1f} {y:5.1f} {z:5.1f}   {spread[point]:4.1f}")
    print(f"mean length of the inner 51: {np.linalg.norm(middle, axis=1)[INNER].mean():.1f}")


if __name__ == "__main__":
    main()
