"""The frontal part of the face: what is compared with photographs.

"Training only uses the frontal part of the face" (figure 5 of the paper). Left out is what a photograph shows covered:
the upper forehead and the temples (hair), the rim before the ears, and whatever the face itself hides from the front,
such as the eyeballs behind the lids. With the whole forehead compared, unsupervised training slides faces downwards
until none of it lies on hair.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from mofaface.rasterizer import rasterize

# From straight ahead and half turned to each side, radians.
VIEWS = (-0.5, 0.0, 0.5)
PIXELS_PER_MM = 8
HALF_WIDTH = 150.0
# A vertex this much behind the nearest surface, mm, is still at it.
TOLERANCE = 0.6
# Height over the model's origin, mm, where hair may begin: in the middle, and its fall towards the temples.
HAIRLINE, HAIRLINE_FALL = 100.0, 0.0075
# Depth under the model's origin, mm, behind which hair and ears may lie.
REAR = -48.0


def frontal_part(
    mean: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "faces 3"]
) -> Int[np.ndarray, "frontal"]:
    """The vertices of the frontal part; `mean` is the average face in model space, mm."""
    x, y, z = mean.T
    before_hair = (y <= HAIRLINE - HAIRLINE_FALL * x**2) & (z >= REAR)
    seen = np.any([visible_from(mean, triangles, yaw) for yaw in VIEWS], axis=0)
    return np.flatnonzero(before_hair & seen)


def visible_from(
    mean: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "faces 3"], yaw: float
) -> Bool[np.ndarray, "vertices"]:
    """True where nothing of the face lies before a vertex, seen without perspective from a yaw in radians."""
    c, s = np.cos(yaw), np.sin(yaw)
    turned = mean @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
    size = int(2 * HALF_WIDTH * PIXELS_PER_MM)
    uv = PIXELS_PER_MM * (HALF_WIDTH + turned[:, :2] * [1, -1])
    depth = 1000.0 - turned[:, 2]
    buffer = rasterize(uv, depth, triangles, size, size).depth
    column, row = np.clip(uv.astype(int), 1, size - 2).T
    # The farthest of the nine pixels around: a vertex on an edge must not be hidden by its own neighbour.
    around = [buffer[row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    nearest = np.max(np.where(np.isinf(around), -1.0, around), axis=0)
    return depth < nearest + TOLERANCE
