"""Equations 1 to 10 of Tewari et al. 2017 once more, in plain NumPy, one vertex at a time.

Written from the paper and shares no code with the package: tests hold the two together. One code, no batch.
"""

from dataclasses import dataclass

import numpy as np

AXES = np.diag(
    [1.0, -1.0, -1.0]
)  # a frontal face has y up and z towards the camera; a camera has them reversed


@dataclass
class PlainFace:
    u: np.ndarray
    c: np.ndarray
    n: np.ndarray
    x: np.ndarray
    visible: list[int]


def rotation(w):
    """The turn by |w| about w, from what it does to the parts along and across the axis."""
    angle = np.linalg.norm(w)
    if angle == 0:
        return np.eye(3)
    k = w / angle
    columns = []
    for e in np.eye(3):
        along = k * np.dot(k, e)
        columns.append(along + np.cos(angle) * (e - along) + np.sin(angle) * np.cross(k, e))
    return np.stack(columns, 1)


def vertices(model, alpha, delta):
    """Equation 2."""
    V = np.array(model.mean_shape, float)
    for i in range(len(V)):
        for k in range(len(alpha)):
            V[i] += model.shape_basis[i, :, k] * alpha[k]
        for k in range(len(delta)):
            V[i] += model.expression_basis[i, :, k] * delta[k]
    return V


def reflectances(model, beta):
    """Equation 3."""
    R = np.array(model.mean_reflectance, float)
    for k in range(len(beta)):
        R += model.reflectance_basis[:, :, k].astype(float) * beta[k]
    return R


def normals(V, triangles):
    """One-ring normals, each triangle weighted with its area."""
    n = np.zeros_like(V)
    for a, b, c in triangles:
        area_vector = 0.5 * np.cross(V[b] - V[a], V[c] - V[a])
        for corner in (a, b, c):
            n[corner] += area_vector
    for i in range(len(n)):
        length = np.linalg.norm(n[i])
        n[i] = n[i] / length if length > 0 else 0
    return n


def light(n, gamma):
    """The sum of equation 4. The harmonics are those of the real orthonormal basis times √(4π)."""
    x, y, z = n
    H = [1.0, 3**0.5 * y, 3**0.5 * z, 3**0.5 * x]
    H += [15**0.5 * x * y, 15**0.5 * y * z, 1.25**0.5 * (2 * z * z - x * x - y * y), 15**0.5 * x * z]
    H += [3.75**0.5 * (x - y) * (x + y)]
    if not n.any():
        H[6] = -(1.25**0.5)  # 3z² − 1 for a vertex without a normal
    s = np.zeros(3)
    for b in range(9):
        s += (gamma[b] + (0.7 if b == 0 else 0.0)) * H[b]
    return s


def decode(model, alpha, delta, beta, w, translation, gamma, focal=1000.0, size=240, distance=1000.0):
    """Equation 5: places u_i and colours c_i."""
    T = rotation(w)
    t = -T @ AXES @ (translation + np.array([0.0, 0.0, distance]))  # the camera's place in model space
    V, R = vertices(model, alpha, delta), reflectances(model, beta)
    N = normals(V, model.triangles)
    u, c, n, x = (np.zeros((len(V), k)) for k in (2, 3, 3, 3))
    visible = []
    for i in range(len(V)):
        x[i] = AXES @ np.linalg.inv(T) @ (V[i] - t)  # Φ, then the camera's axes
        n[i] = AXES @ np.linalg.inv(T) @ N[i]
        depth = max(x[i, 2], 0.1 * distance)
        u[i] = focal * x[i, :2] / depth + size / 2
        c[i] = R[i] * light(n[i], gamma)
        if np.dot(n[i], -x[i]) > 0:
            visible.append(i)
    return PlainFace(u, c, n, x, visible)


def sample(image, u):
    """The picture (3, H, W) between pixel centres at +0.5, its border going on outside."""
    height, width = image.shape[1:]
    x, y = np.clip(u[0] - 0.5, 0, width - 1), np.clip(u[1] - 0.5, 0, height - 1)
    x0, y0 = min(int(x), width - 2), min(int(y), height - 2)
    value = np.zeros(3)
    for dy in (0, 1):
        for dx in (0, 1):
            value += (1 - abs(x - x0 - dx)) * (1 - abs(y - y0 - dy)) * image[:, y0 + dy, x0 + dx]
    return value


def photometric(image, face):
    """Equation 8."""
    return sum(np.linalg.norm(sample(image, face.u[i]) - face.c[i]) for i in face.visible) / len(face.u)


def landmark(face, vertices, places, confidence, size=240):
    """Equation 9, lengths in widths of the picture."""
    E = 0.0
    for k, s, c in zip(vertices, places, confidence, strict=True):
        E += c * np.linalg.norm((face.u[k] - s) / size) ** 2
    return E


def regularisation(alpha, beta, delta, w_beta=1.7e-3, w_delta=0.8):
    """Equation 10."""
    return np.sum(alpha**2) + w_beta * np.sum(beta**2) + w_delta * np.sum(delta**2)


def loss(photo, land, reg, w_land=1.0, w_photo=1.92, w_reg=2.9e-5):
    """Equation 7."""
    return w_land * land + w_photo * photo + w_reg * reg
