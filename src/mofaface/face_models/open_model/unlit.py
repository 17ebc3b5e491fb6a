"""Photographs without their light: colour casts, shading and hair found and taken out."""

import numpy as np
from jaxtyping import Bool, Float

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
DARKEST = 0.02
# On a forehead, what is so far from the person's skin colour (RMS of the channels) is hair.
HAIR = 0.09


def balanced(
    colour: Float[np.ndarray, "people vertices 3"], weight: Float[np.ndarray, "people vertices"], share: float
) -> Float[np.ndarray, "people vertices 3"]:
    """The photos with most of their colour casts divided out.

    Skin tones lie near one line in the logarithm of RGB, from dark to light; cameras and lamps move whole photos off it.
    """
    tones = np.log(np.stack([np.median(c[w > 0.5], axis=0) for c, w in zip(colour, weight, strict=True)]))
    middle = np.median(tones, axis=0)
    axis = np.linalg.svd(tones - middle, full_matrices=False)[2][0]
    off = tones - middle - np.outer((tones - middle) @ axis, axis)
    return colour * np.exp(-share * off)[:, None].astype(np.float32)


def fit_light(
    colour: Float[np.ndarray, "vertices 3"],
    normal: Float[np.ndarray, "vertices 3"],
    weight: Float[np.ndarray, "vertices"],
    own: Float[np.ndarray, "vertices 3"],
    exposure: float,
    evenness: float,
) -> Float[np.ndarray, "vertices"]:
    """Shading of every vertex by robust regression of photo over reflectance on the nine harmonics; its mean is `exposure`.

    `evenness` weighs the wish for even light against all vertices' agreement.
    """
    H = harmonic_rows(normal)
    ratio = (colour @ LUMINANCE) / np.maximum(own @ LUMINANCE, DARKEST)
    # The person's tone is in the ratio as well: only its pattern is light.
    ratio = ratio / max(np.average(ratio, weights=weight), DARKEST)
    w, gamma = weight.copy(), np.zeros(9)
    ridge = evenness * np.r_[0, np.ones(3), 2 * np.ones(5)]
    for _ in range(8):
        A = (H * w[:, None]).T @ H / w.sum() + np.diag(ridge)
        gamma = np.linalg.solve(A, (H * w[:, None]).T @ ratio / w.sum())
        residual = ratio - H @ gamma
        scale = 1.5 * np.median(np.abs(residual[weight > 0.3])) + 1e-3
        w = weight / (1 + (residual / scale) ** 2) ** 2
    shading = np.maximum(H @ gamma, 0.3)
    return (exposure * shading / np.average(shading, weights=weight)).astype(np.float32)


def harmonic_rows(n: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 9"]:
    """Nine quadratic functions of the normal, which span the same light as the harmonics."""
    x, y, z = n.T
    return np.stack([np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], axis=1)


def like_skin(
    value: Float[np.ndarray, "people vertices 3"],
    weight: Float[np.ndarray, "people vertices"],
    bare: Bool[np.ndarray, "vertices"],
) -> Float[np.ndarray, "people bare"]:
    """1 for bare vertices of the colour of the person's skin, falling to 0 for hair."""
    skin = np.stack([np.median(v[w > 0.5], axis=0) for v, w in zip(value, weight, strict=True)])
    distance = np.linalg.norm(value[:, bare] - skin[:, None], axis=-1) / np.sqrt(3)
    return (1 / (1 + (distance / HAIR) ** 4)).astype(np.float32)
