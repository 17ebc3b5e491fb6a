"""Triton: products with a basis in tiles, and geometry with its way back through the normals (equation 2).

Here and in the other kernels a program works on one tile of vertices in a few pictures. Intermediate rows are
[vertex][axis][picture], so that a neighbour of a vertex is one run of memory in all of a program's pictures. Sums over
vertices are left for each tile in `partial` [tile][row][picture], where rows are those of the packed code, so that no
program waits for another and nothing depends on the order in which they run.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def expand(
    basis, mean, scale, codes, tile, picture, batch, size, first, modes,
    K: tl.constexpr, BV: tl.constexpr, BK: tl.constexpr, BB: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """The three axes [vertex, picture] of mean + basis · coefficients, which start at `first` in a packed code."""
    vertex = tl.arange(0, BV)
    mode = tl.arange(0, BK)
    zero = tl.zeros((BV, BB), tl.float32)
    x = zero + tl.load(mean + tile * 3 * BV + vertex)[:, None]
    y = zero + tl.load(mean + tile * 3 * BV + BV + vertex)[:, None]
    z = zero + tl.load(mean + tile * 3 * BV + 2 * BV + vertex)[:, None]
    inside = (picture < batch)[None, :]
    for k in range(0, K, BK):
        given = inside & (k + mode < modes)[:, None]
        c = tl.load(codes + picture[None, :] * size + first + k + mode[:, None], mask=given, other=0.0)
        c = c * tl.load(scale + k + mode)[:, None]
        place = basis + (tile * K + k) * 3 * BV + vertex[:, None] * BK + mode[None, :]
        x = tl.dot(tl.load(place).to(tl.float32), c, x, input_precision=DOT)
        y = tl.dot(tl.load(place + BV * BK).to(tl.float32), c, y, input_precision=DOT)
        z = tl.dot(tl.load(place + 2 * BV * BK).to(tl.float32), c, z, input_precision=DOT)
    return x, y, z


@triton.jit
@no_type_check
def pull(
    basis, tile, x, y, z, out, by_mode, by_picture, modes, given,
    K: tl.constexpr, BV: tl.constexpr, BK: tl.constexpr, BB: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Store Σ over a tile's vertices and axes of basis · (x, y, z), for each mode and picture."""
    vertex = tl.arange(0, BV)
    mode = tl.arange(0, BK)
    for k in range(0, K, BK):
        place = basis + (tile * K + k) * 3 * BV + vertex[None, :] * BK + mode[:, None]
        sums = tl.zeros((BK, BB), tl.float32)
        sums = tl.dot(tl.load(place).to(tl.float32), x, sums, input_precision=DOT)
        sums = tl.dot(tl.load(place + BV * BK).to(tl.float32), y, sums, input_precision=DOT)
        sums = tl.dot(tl.load(place + 2 * BV * BK).to(tl.float32), z, sums, input_precision=DOT)
        kept = given[None, :] & (k + mode < modes)[:, None]
        tl.store(out + (k + mode)[:, None] * by_mode + by_picture[None, :], sums, mask=kept)


@triton.jit
@no_type_check
def load3(rows, vertex, picture, width):
    """Three axes [vertex, picture] of some vertices' rows."""
    place = rows + vertex[:, None] * (3 * width) + picture[None, :]
    return tl.load(place), tl.load(place + width), tl.load(place + 2 * width)


@triton.jit
@no_type_check
def load3_or_zero(rows, vertex, picture, width, count):
    """The same for the first `count` vertices, and zeros for the others, which have no row."""
    place = rows + vertex[:, None] * (3 * width) + picture[None, :]
    has = (vertex < count)[:, None]
    return tl.load(place, has, 0.0), tl.load(place + width, has, 0.0), tl.load(place + 2 * width, has, 0.0)


@triton.jit
@no_type_check
def store3(rows, vertex, picture, width, x, y, z):
    """Store three axes as rows of some vertices."""
    place = rows + vertex[:, None] * (3 * width) + picture[None, :]
    tl.store(place, x)
    tl.store(place + width, y)
    tl.store(place + 2 * width, z)


@triton.jit
@no_type_check
def cross(ax, ay, az, bx, by, bz):
    """The cross product."""
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@triton.jit
@no_type_check
def geometry_kernel(
    basis, mean, scale, codes, x, batch, size, width, first, modes,
    K: tl.constexpr, BV: tl.constexpr, BK: tl.constexpr, BB: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Places of a tile's vertices in model space, mm."""
    picture = tl.program_id(0) * BB + tl.arange(0, BB)
    tile = tl.program_id(1)
    vx, vy, vz = expand(
        basis, mean, scale, codes, tile, picture, batch, size, first, modes, K, BV, BK, BB, DOT
    )
    store3(x, tile * BV + tl.arange(0, BV), picture, width, vx, vy, vz)


@triton.jit
@no_type_check
def pull_geometry_kernel(
    basis, x, by_x, by_normal, ring, degree, partial, width, vertices, rows, frontal, first, modes,
    K: tl.constexpr, BV: tl.constexpr, BK: tl.constexpr, BB: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile's places, also through the normals around it, pulled back to the modes.

    A corner v of a triangle (v, p, q) turns its area vector (p − v) × (q − v): dE/dv = Σ (p − q) × (g_v + g_p + g_q).
    """
    picture = tl.program_id(0) * BB + tl.arange(0, BB)
    tile = tl.program_id(1)
    vertex = tile * BV + tl.arange(0, BV)
    gx, gy, gz = load3_or_zero(by_x, vertex, picture, width, frontal)
    nx, ny, nz = load3_or_zero(by_normal, vertex, picture, width, frontal)
    for slot in range(tl.load(degree + tile)):
        p = tl.load(ring + 2 * slot * vertices + vertex)
        q = tl.load(ring + (2 * slot + 1) * vertices + vertex)
        px, py, pz = load3(x, p, picture, width)
        qx, qy, qz = load3(x, q, picture, width)
        ax, ay, az = load3_or_zero(by_normal, p, picture, width, frontal)
        bx, by, bz = load3_or_zero(by_normal, q, picture, width, frontal)
        sx, sy, sz = cross(px - qx, py - qy, pz - qz, nx + ax + bx, ny + ay + by, nz + az + bz)
        gx += sx
        gy += sy
        gz += sz
    # Every lane is stored: `partial` is as wide as the padded batch.
    out = partial + tile.to(tl.int64) * rows * width + first * width
    pull(basis, tile, gx, gy, gz, out, width, picture, modes, picture >= 0, K, BV, BK, BB, DOT)
