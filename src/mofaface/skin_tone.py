"""Skin tone as dermatology measures it: the individual typology angle (ITA) of a colour.

ITA = atan((L* − 50) / b*) in degrees, of CIELAB under D65: above 55 very light, 41 to 55 light, 28 to 41 intermediate,
10 to 28 tan, −30 to 10 brown, below −30 dark (Chardon et al. 1991; Del Bino and Bernerd 2013).
"""

import numpy as np
from jaxtyping import Float

BOUNDS = (-30.0, 10.0, 28.0, 41.0, 55.0)
GROUPS = ("dark", "brown", "tan", "intermediate", "light", "very light")
# Linear sRGB to XYZ, each row over D65's white (IEC 61966-2-1).
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = XYZ.sum(axis=1)


def lab(rgb: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """CIELAB of sRGB colours in [0, 1] (values outside are clipped): L* in 0 to 100, a*, b*."""
    encoded = np.clip(rgb, 0, 1)
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    ratio = linear @ XYZ.T / WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ita(rgb: Float[np.ndarray, "3"]) -> float:
    """The individual typology angle of a skin colour, degrees: large for light skin, negative for dark."""
    L, _, b = lab(rgb)
    return float(np.degrees(np.arctan2(L - 50, b)))
