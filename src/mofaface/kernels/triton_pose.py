"""Triton: pose and projection of a few pictures, and the landmarks' term on its few vertices (equation 9)."""

from typing import no_type_check

import triton
import triton.language as tl

from mofaface.kernels.triton_geometry import cross, expand, pull


@triton.jit
@no_type_check
def pose_of(codes, picture, given, size, at, distance):
    """R (nine, by rows) and t (three) for [picture]: x_camera = R x + t. The pose starts at `at` in a packed code."""
    place = codes + picture * size + at
    x, y, z = tl.load(place, given, 0.0), tl.load(place + 1, given, 0.0), tl.load(place + 2, given, 0.0)
    tx, ty, tz = (
        tl.load(place + 3, given, 0.0),
        tl.load(place + 4, given, 0.0),
        tl.load(place + 5, given, 0.0),
    )
    a, b, _ = rotation_factors(x * x + y * y + z * z)
    r00, r01, r02 = 1 - b * (y * y + z * z), b * x * y + a * z, b * x * z - a * y
    r10, r11, r12 = a * z - b * x * y, b * (x * x + z * z) - 1, -a * x - b * y * z
    r20, r21, r22 = -a * y - b * x * z, a * x - b * y * z, b * (x * x + y * y) - 1
    return r00, r01, r02, r10, r11, r12, r20, r21, r22, tx, ty, tz + distance


@triton.jit
@no_type_check
def rotation_factors(square):
    """sin θ / θ, (1 − cos θ) / θ² and (θ − sin θ) / θ³ of a squared angle."""
    small = square < 1e-2
    safe = tl.where(small, 1.0, square)
    angle = tl.sqrt(safe)
    # By the half angle: 1 − cos θ would cancel in float32.
    half = tl.sin(0.5 * angle) / angle
    sinc = tl.sin(angle) / angle
    a = tl.where(small, 1 - square / 6 + square * square / 120, sinc)
    b = tl.where(small, 0.5 - square / 24 + square * square / 720, 2 * half * half)
    c = tl.where(small, 1.0 / 6 - square / 120 + square * square / 5040, (1 - sinc) / safe)
    return a, b, c


@triton.jit
@no_type_check
def by_rotation(codes, picture, given, size, at, tx, ty, tz):
    """The gradient by a rotation vector w from torques τ = (R x) × dE/dx_camera: −J(w)ᵀ F τ, J the right Jacobian."""
    place = codes + picture * size + at
    x, y, z = tl.load(place, given, 0.0), tl.load(place + 1, given, 0.0), tl.load(place + 2, given, 0.0)
    _, b, c = rotation_factors(x * x + y * y + z * z)
    x, y, z, b, c = x[None, :], y[None, :], z[None, :], b[None, :], c[None, :]
    ux, uy, uz = -tx, ty, tz
    wx, wy, wz = cross(x, y, z, ux, uy, uz)
    wwx, wwy, wwz = cross(x, y, z, wx, wy, wz)
    return ux + b * wx + c * wwx, uy + b * wy + c * wwy, uz + b * wz + c * wwz


@triton.jit
@no_type_check
def turn(r00, r01, r02, r10, r11, r12, r20, r21, r22, x, y, z):
    """R v for R of each picture and v of each vertex and picture."""
    tx = r00[None, :] * x + r01[None, :] * y + r02[None, :] * z
    ty = r10[None, :] * x + r11[None, :] * y + r12[None, :] * z
    tz = r20[None, :] * x + r21[None, :] * y + r22[None, :] * z
    return tx, ty, tz


@triton.jit
@no_type_check
def project(x, y, z, focal, centre_x, centre_y, nearest):
    """u, v in pixels, focal / depth, and 1 / depth where it is the vertex's own, 0 where it is the nearest one."""
    # A NaN is not nearer than anything: it goes on as it is.
    near = z <= nearest
    inverse = 1.0 / tl.where(near, nearest, z)
    scale = focal * inverse
    return x * scale + centre_x, y * scale + centre_y, scale, tl.where(near, 0.0, inverse)


@triton.jit
@no_type_check
def landmarks_kernel(
    basis, mean, scale, codes, targets, confidence, land, places, gradient,
    batch, size, points, modes, first, pose_at, image_width, focal, centre_x, centre_y, nearest, distance,
    K: tl.constexpr, BV: tl.constexpr, BK: tl.constexpr, BB: tl.constexpr, DOT: tl.constexpr,
    LAND: tl.constexpr, GRADIENT: tl.constexpr,
):  # fmt: skip
    """Places of all landmarks in some pictures; E_land and its gradient where they are asked for."""
    picture = tl.program_id(0) * BB + tl.arange(0, BB)
    given = picture < batch
    x, y, z = expand(basis, mean, scale, codes, 0, picture, batch, size, first, modes, K, BV, BK, BB, DOT)
    r00, r01, r02, r10, r11, r12, r20, r21, r22, tx, ty, tz = pose_of(
        codes, picture, given, size, pose_at, distance
    )
    x, y, z = turn(r00, r01, r02, r10, r11, r12, r20, r21, r22, x, y, z)
    cx, cy, cz = x + tx[None, :], y + ty[None, :], z + tz[None, :]
    u, v, zoom, inverse = project(cx, cy, cz, focal, centre_x, centre_y, nearest)
    point = tl.arange(0, BV)
    wanted = (point < points)[:, None] & given[None, :]
    place = picture[None, :] * points + point[:, None]
    tl.store(places + 2 * place, u, wanted)
    tl.store(places + 2 * place + 1, v, wanted)
    if LAND:
        weight = tl.load(confidence + place, wanted, 0.0)
        du = tl.where(wanted, u - tl.load(targets + 2 * place, wanted, 0.0), 0.0) / image_width
        dv = tl.where(wanted, v - tl.load(targets + 2 * place + 1, wanted, 0.0), 0.0) / image_width
        tl.store(land + picture, tl.sum(weight * (du * du + dv * dv), 0), given)
        if GRADIENT:
            gu, gv = 2 * weight * du / image_width, 2 * weight * dv / image_width
            gx, gy, gz = gu * zoom, gv * zoom, -(gu * cx + gv * cy) * zoom * inverse
            out = gradient + picture * size + pose_at
            ax, ay, az = cross(x, y, z, gx, gy, gz)
            ax, ay, az = by_rotation(codes, picture, given, size, pose_at, ax, ay, az)
            tl.store(out, tl.sum(ax, 0), given)
            tl.store(out + 1, tl.sum(ay, 0), given)
            tl.store(out + 2, tl.sum(az, 0), given)
            tl.store(out + 3, tl.sum(gx, 0), given)
            tl.store(out + 4, tl.sum(gy, 0), given)
            tl.store(out + 5, tl.sum(gz, 0), given)
            bx, by, bz = turn(r00, r10, r20, r01, r11, r21, r02, r12, r22, gx, gy, gz)
            pull(basis, 0, bx, by, bz, gradient + first, 1, picture * size, modes, given, K, BV, BK, BB, DOT)
