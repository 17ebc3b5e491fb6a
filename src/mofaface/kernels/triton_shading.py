"""Triton: the photometric term of a tile of frontal vertices with its gradient (equations 3, 4, 6 and 8), and its sums."""

from typing import no_type_check

import triton
import triton.language as tl

from mofaface.kernels.triton_geometry import cross, expand, load3, pull, store3
from mofaface.kernels.triton_pose import by_rotation, pose_of, project, turn

SQRT3, SQRT5, SQRT15 = tl.constexpr(3**0.5), tl.constexpr(5**0.5), tl.constexpr(15**0.5)
# Rows of `partial` after those of the packed code: loss, number of fronts, number of places that are none.
EXTRA = 3


@triton.jit
@no_type_check
def finite(x):
    """False for infinities and NaN."""
    return tl.abs(x) < float("inf")


@triton.jit
@no_type_check
def normals(x, vx, vy, vz, ring, degree, tile, vertex, picture, width, vertices):
    """Unit normals of a tile and 1 / (length of the summed area vectors); both zero where that has no length."""
    nx, ny, nz = tl.zeros_like(vx), tl.zeros_like(vx), tl.zeros_like(vx)
    for slot in range(tl.load(degree + tile)):
        p = tl.load(ring + 2 * slot * vertices + vertex)
        q = tl.load(ring + (2 * slot + 1) * vertices + vertex)
        px, py, pz = load3(x, p, picture, width)
        qx, qy, qz = load3(x, q, picture, width)
        ax, ay, az = cross(px - vx, py - vy, pz - vz, qx - vx, qy - vy, qz - vz)
        nx += ax
        ny += ay
        nz += az
    square = nx * nx + ny * ny + nz * nz
    flat = square == 0
    inverse = tl.where(flat, 0.0, 1.0 / tl.sqrt(tl.where(flat, 1.0, square)))
    return nx * inverse, ny * inverse, nz * inverse, inverse


@triton.jit
@no_type_check
def shade(codes, picture, given, size, at, ambient, nx, ny, nz):
    """The radiosity of one channel and its derivative by the normal; the channel's first coefficient is at `at`."""
    place = codes + picture * size + at
    # Harmonic by harmonic, three channels each.
    g0 = tl.load(place, given, 0.0)[None, :] + ambient
    ly = SQRT3 * tl.load(place + 3, given, 0.0)[None, :]
    lz = SQRT3 * tl.load(place + 6, given, 0.0)[None, :]
    lx = SQRT3 * tl.load(place + 9, given, 0.0)[None, :]
    xy = 0.5 * SQRT15 * tl.load(place + 12, given, 0.0)[None, :]
    yz = 0.5 * SQRT15 * tl.load(place + 15, given, 0.0)[None, :]
    g6 = SQRT5 * tl.load(place + 18, given, 0.0)[None, :]
    xz = 0.5 * SQRT15 * tl.load(place + 21, given, 0.0)[None, :]
    xx = 0.5 * SQRT15 * tl.load(place + 24, given, 0.0)[None, :]
    sx = xx * nx + xy * ny + xz * nz
    sy = xy * nx - xx * ny + yz * nz
    sz = xz * nx + yz * ny + 1.5 * g6 * nz
    shading = g0 - 0.5 * g6 + nx * (sx + lx) + ny * (sy + ly) + nz * (sz + lz)
    return shading, 2 * sx + lx, 2 * sy + ly, 2 * sz + lz


@triton.jit
@no_type_check
def between_pixels(u, v, height, image_width):
    """Row and column of the pixel up and left of a place, how far the place lies from it, and whether each may move it."""
    u -= 0.5
    v -= 0.5
    right, bottom = (image_width - 1).to(tl.float32), (height - 1).to(tl.float32)
    moves_u, moves_v = (u > 0) & (u < right), (v > 0) & (v < bottom)
    # In this order a NaN becomes 0 and reads inside the image.
    u, v = tl.where(u > 0, u, 0.0), tl.where(v > 0, v, 0.0)
    u, v = tl.where(u < right, u, right), tl.where(v < bottom, v, bottom)
    column = tl.minimum(u.to(tl.int32), image_width - 2)
    row = tl.minimum(v.to(tl.int32), height - 2)
    return row, column, u - column.to(tl.float32), v - row.to(tl.float32), moves_u, moves_v


@triton.jit
@no_type_check
def sample(place, by_row, by_column, fu, fv, moves_u, moves_v, read):
    """A channel between four pixels and its derivative by the place."""
    a = tl.load(place, read, 0.0)
    b = tl.load(place + by_column, read, 0.0)
    d = tl.load(place + by_row, read, 0.0)
    e = tl.load(place + by_row + by_column, read, 0.0)
    top, low = a + fu * (b - a), d + fu * (e - d)
    across = (b - a) + fv * ((e - d) - (b - a))
    return top + fv * (low - top), tl.where(moves_u, across, 0.0), tl.where(moves_v, low - top, 0.0)


@triton.jit
@no_type_check
def store_sums(out, row, picture, width, a, b, c, d, e, f, g, h):
    """Store the sums over a tile of eight values as rows; together they cost one reduction."""
    first, second = tl.join(tl.join(a, e), tl.join(c, g)), tl.join(tl.join(b, f), tl.join(d, h))
    sums = tl.sum(tl.join(first, second), 0).reshape(picture.shape[0], 8)
    tl.store(out + (row + tl.arange(0, 8))[None, :] * width + picture[:, None], sums)


@triton.jit
@no_type_check
def store_light_sums(out, light_at, picture, width, h0, h1, h2, nx, ny, nz):
    """Store the sums over a tile for the light, but for the first two, which fill the pose's eight: from the third on."""
    # The nine polynomials of the harmonics, for each channel: the code's order.
    p4, p5, p6, p7, p8 = nx * ny, ny * nz, 3 * nz * nz - 1, nx * nz, nx * nx - ny * ny
    store_sums(
        out, light_at + 2, picture, width,
        h2, h0 * ny, h1 * ny, h2 * ny, h0 * nz, h1 * nz, h2 * nz, h0 * nx,
    )  # fmt: skip
    store_sums(
        out, light_at + 10, picture, width,
        h1 * nx, h2 * nx, h0 * p4, h1 * p4, h2 * p4, h0 * p5, h1 * p5, h2 * p5,
    )  # fmt: skip
    store_sums(
        out, light_at + 18, picture, width,
        h0 * p6, h1 * p6, h2 * p6, h0 * p7, h1 * p7, h2 * p7, h0 * p8, h1 * p8,
    )  # fmt: skip
    tl.store(out + (light_at + 26) * width + picture, tl.sum(h2 * p8, 0))


@triton.jit
@no_type_check
def directions(d0, d1, d2, square, length, front):
    """The residuals over their length: the derivative of the length; zero where a vertex is hidden or has its colour."""
    some = front & (square != 0)
    unit = tl.where(some, 1.0 / tl.where(some, length, 1.0), 0.0)
    return tl.where(front, d0 * unit, 0.0), tl.where(front, d1 * unit, 0.0), tl.where(front, d2 * unit, 0.0)


@triton.jit
@no_type_check
def store_turned(out, vertex, picture, width, r00, r01, r02, r10, r11, r12, r20, r21, r22, gx, gy, gz):
    """Store a gradient by vectors of the camera as one by vectors of the model: turned by the transpose."""
    gx, gy, gz = turn(r00, r10, r20, r01, r11, r21, r02, r12, r22, gx, gy, gz)
    store3(out, vertex, picture, width, gx, gy, gz)


@triton.jit
@no_type_check
def terms_kernel(
    x, ring, degree, basis, mean, scale, codes, image, by_x, by_normal, partial,
    batch, size, width, vertices, rows, frontal, modes, beta_at, pose_at, light_at,
    height, image_width, by_picture, by_channel, by_row, by_column,
    focal, centre_x, centre_y, nearest, distance, ambient,
    K: tl.constexpr, BV: tl.constexpr, BK: tl.constexpr, BB: tl.constexpr, DOT: tl.constexpr,
    GRADIENT: tl.constexpr,
):  # fmt: skip
    """The loss of a tile and, if asked for, its gradients: by places and by area vectors as rows, the rest as sums."""
    picture = tl.program_id(0) * BB + tl.arange(0, BB)
    tile = tl.program_id(1)
    given = picture < batch
    vertex = tile * BV + tl.arange(0, BV)
    compared = (vertex < frontal)[:, None] & given[None, :]
    x_, y_, z_ = load3(x, vertex, picture, width)
    nx, ny, nz, inverse = normals(x, x_, y_, z_, ring, degree, tile, vertex, picture, width, vertices)
    r00, r01, r02, r10, r11, r12, r20, r21, r22, tx, ty, tz = pose_of(
        codes, picture, given, size, pose_at, distance
    )
    nx, ny, nz = turn(r00, r01, r02, r10, r11, r12, r20, r21, r22, nx, ny, nz)
    x_, y_, z_ = turn(r00, r01, r02, r10, r11, r12, r20, r21, r22, x_, y_, z_)
    cx, cy, cz = x_ + tx[None, :], y_ + ty[None, :], z_ + tz[None, :]
    towards = cx * nx + cy * ny + cz * nz
    front = compared & (towards < 0)
    bad = compared & (finite(towards) == 0)

    r, g, b = expand(
        basis, mean, scale, codes, tile, picture, batch, size, beta_at, modes, K, BV, BK, BB, DOT
    )
    u, v, zoom, own_inverse = project(cx, cy, cz, focal, centre_x, centre_y, nearest)
    row, column, fu, fv, moves_u, moves_v = between_pixels(u, v, height, image_width)
    pixel = image + picture.to(tl.int64)[None, :] * by_picture + row * by_row + column * by_column
    i0, u0, v0 = sample(pixel, by_row, by_column, fu, fv, moves_u, moves_v, front)
    i1, u1, v1 = sample(pixel + by_channel, by_row, by_column, fu, fv, moves_u, moves_v, front)
    i2, u2, v2 = sample(pixel + 2 * by_channel, by_row, by_column, fu, fv, moves_u, moves_v, front)
    s0, x0, y0, z0 = shade(codes, picture, given, size, light_at, ambient, nx, ny, nz)
    s1, x1, y1, z1 = shade(codes, picture, given, size, light_at + 1, ambient, nx, ny, nz)
    s2, x2, y2, z2 = shade(codes, picture, given, size, light_at + 2, ambient, nx, ny, nz)
    d0, d1, d2 = i0 - r * s0, i1 - g * s1, i2 - b * s2
    square = d0 * d0 + d1 * d1 + d2 * d2
    length = tl.sqrt(square)
    out = partial + tile.to(tl.int64) * rows * width + picture
    # A NaN must stay one: hidden vertices are left out by choice, not by multiplying.
    tl.store(out + size * width, tl.sum(tl.where(front, length, 0.0), 0))
    tl.store(out + (size + 1) * width, tl.sum(tl.where(front, 1.0, 0.0), 0))
    tl.store(out + (size + 2) * width, tl.sum(tl.where(bad, 1.0, 0.0), 0))

    if GRADIENT:
        d0, d1, d2 = directions(d0, d1, d2, square, length, front)
        gu = d0 * u0 + d1 * u1 + d2 * u2
        gv = d0 * v0 + d1 * v1 + d2 * v2
        h0 = tl.where(front, -d0 * r, 0.0)
        h1 = tl.where(front, -d1 * g, 0.0)
        h2 = tl.where(front, -d2 * b, 0.0)
        # A hidden vertex beside the camera may lie anywhere: its place times zero need not be zero.
        gx = tl.where(front, gu * zoom, 0.0)
        gy = tl.where(front, gv * zoom, 0.0)
        gz = tl.where(front, -(gu * cx + gv * cy) * zoom * own_inverse, 0.0)
        mx = tl.where(front, h0 * x0 + h1 * x1 + h2 * x2, 0.0)
        my = tl.where(front, h0 * y0 + h1 * y1 + h2 * y2, 0.0)
        mz = tl.where(front, h0 * z0 + h1 * z1 + h2 * z2, 0.0)
        ax, ay, az = cross(x_, y_, z_, gx, gy, gz)
        bx, by, bz = cross(nx, ny, nz, mx, my, mz)
        ax, ay, az = by_rotation(
            codes, picture, given, size, pose_at,
            tl.where(front, ax + bx, 0.0), tl.where(front, ay + by, 0.0), tl.where(front, az + bz, 0.0),
        )  # fmt: skip
        sums = partial + tile.to(tl.int64) * rows * width
        store_sums(sums, pose_at, picture, width, ax, ay, az, gx, gy, gz, h0, h1)
        store_light_sums(sums, light_at, picture, width, h0, h1, h2, nx, ny, nz)
        store_turned(by_x, vertex, picture, width, r00, r01, r02, r10, r11, r12, r20, r21, r22, gx, gy, gz)
        along = nx * mx + ny * my + nz * mz
        mx, my, mz = (mx - along * nx) * inverse, (my - along * ny) * inverse, (mz - along * nz) * inverse
        store_turned(
            by_normal, vertex, picture, width, r00, r01, r02, r10, r11, r12, r20, r21, r22, mx, my, mz
        )
        # The basis is read again, now from the processor's cache.
        pull(
            basis, tile, -d0 * s0, -d1 * s1, -d2 * s2, sums + beta_at * width, width, picture, modes, picture >= 0,
            K, BV, BK, BB, DOT,
        )  # fmt: skip


@triton.jit
@no_type_check
def finish_kernel(
    partial, codes, worth, photo, front, gradient,
    batch, size, width, rows, tiles, shown_tiles, frontal, whole_first, whole_last,
    SIZE: tl.constexpr, BT: tl.constexpr, BR: tl.constexpr, BB: tl.constexpr, GRADIENT: tl.constexpr,
):  # fmt: skip
    """Sums over the tiles of some rows: the terms, and the gradient by some values of the packed code.

    Rows from `whole_first` to `whole_last` have a sum in every tile, the others in the first `shown_tiles`.
    """
    picture = tl.program_id(0) * BB + tl.arange(0, BB)
    row = tl.program_id(1) * BR + tl.arange(0, BR)
    given = picture < batch
    whole = (row >= whole_first) & (row < whole_last)
    loss, seen, bad = tl.zeros((BB,), tl.float32), tl.zeros((BB,), tl.float32), tl.zeros((BB,), tl.float32)
    sums = tl.zeros((BR, BB), tl.float32)
    for start in range(0, tiles, BT):
        tile = start + tl.arange(0, BT)
        place = partial + tile.to(tl.int64)[:, None] * rows * width + picture[None, :]
        shown = (tile < shown_tiles)[:, None]
        loss += tl.sum(tl.load(place + size * width, shown, 0.0), 0)
        seen += tl.sum(tl.load(place + (size + 1) * width, shown, 0.0), 0)
        bad += tl.sum(tl.load(place + (size + 2) * width, shown, 0.0), 0)
        if GRADIENT:
            wanted = (row < size)[None, :] & (
                (tile < shown_tiles)[:, None] | (whole[None, :] & (tile < tiles)[:, None])
            )
            sums += tl.sum(
                tl.load(place[:, None, :] + row[None, :, None] * width, wanted[:, :, None], 0.0), 0
            )
    column = tl.arange(0, SIZE)
    code = tl.load(
        codes + picture[:, None] * size + column[None, :], given[:, None] & (column < size)[None, :], 0.0
    )
    bad += tl.sum(tl.where(finite(code), 0.0, 1.0), 1)
    term = tl.where(bad == 0, loss / frontal, float("nan"))
    first = given & (tl.program_id(1) == 0)
    tl.store(photo + picture, term, first)
    tl.store(front + picture, seen, first)
    if GRADIENT:
        found = tl.load(worth + row, row < size, 0.0)[:, None] * sums
        found = tl.where(finite(term)[None, :], found, float("nan"))
        tl.store(
            gradient + picture[None, :] * size + row[:, None], found, (row < size)[:, None] & given[None, :]
        )
