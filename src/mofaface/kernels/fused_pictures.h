// What is done for one picture with a tile of its vertices: pose, visibility, projection, sampling, shading and the loss.

#pragma once
#include <limits>

#include "fused.h"
#include "fused_vectors.h"

namespace {

// ---- Pose ------------------------------------------------------------------------------------------------------

// x_camera = R x + t, with dE/dw = −J(w)ᵀ F τ for a torque τ = Σ (R x) × dE/dx_camera (+ normals).
struct Pose {
    float R[9], t[3];
    double J[9];  // the right Jacobian of the rotation's exponential map
};

Pose pose_of(const float* w, const float* shift, float distance) {
    const double x = w[0], y = w[1], z = w[2], s = x * x + y * y + z * z;
    double a, b, c;  // sin θ / θ, (1 − cos θ) / θ², (θ − sin θ) / θ³
    if (s < 1e-6) {
        a = 1 - s / 6 + s * s / 120;
        b = 0.5 - s / 24 + s * s / 720;
        c = 1.0 / 6 - s / 120 + s * s / 5040;
    } else {
        const double angle = std::sqrt(s);
        a = std::sin(angle) / angle;
        b = (1 - std::cos(angle)) / s;
        c = (1 - a) / s;
    }
    const double W[9] = {0, -z, y, z, 0, -x, -y, x, 0};
    double WW[9];
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j)
            WW[i * 3 + j] = W[i * 3] * W[j] + W[i * 3 + 1] * W[3 + j] + W[i * 3 + 2] * W[6 + j];
    const double F[3] = {1, -1, -1};  // model axes to camera axes
    Pose p;
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
            const double one = i == j;
            p.R[i * 3 + j] = static_cast<float>(F[i] * (one + a * W[j * 3 + i] + b * WW[j * 3 + i]));
            p.J[i * 3 + j] = one - b * W[i * 3 + j] + c * WW[i * 3 + j];
        }
    for (int i = 0; i < 3; ++i) p.t[i] = shift[i] + (i == 2 ? distance : 0);
    return p;
}

void rotation_gradient(const Pose& p, const double* torque, float* out) {
    const double F[3] = {1, -1, -1};
    for (int i = 0; i < 3; ++i) {
        double sum = 0;
        for (int j = 0; j < 3; ++j) sum -= p.J[j * 3 + i] * F[j] * torque[j];
        out[i] += static_cast<float>(sum);
    }
}

// ---- A picture --------------------------------------------------------------------------------------------------

const float SQRT3 = 1.7320508075688772f, SQRT15 = 3.872983346207417f, SQRT5 = 2.23606797749979f;

struct Picture {
    Pose pose;
    // The radiosity of a channel is m + n·(l + Q n), Q of xx xy xz yz zz with yy = −xx.
    float Q[3][5], l[3][3], m[3];
    const float* image;
};

Picture picture_of(const Model& m, const Camera& camera, const Batch& batch, int b) {
    const float* code = batch.codes + 1LL * b * batch.code_size;
    const float* turn = code + m.shape_expression + m.reflectance_modes;
    Picture p;
    p.pose = pose_of(turn, turn + 3, camera.distance);
    p.image = batch.image + 3LL * b * batch.height * batch.width;
    for (int c = 0; c < 3; ++c) {
        float g[9];
        for (int k = 0; k < 9; ++k) g[k] = turn[6 + 3 * k + c];
        g[0] += camera.ambient;
        const float h = 0.5f * SQRT15, zz = 1.5f * SQRT5;
        const float Q[5] = {h * g[8], h * g[4], h * g[7], h * g[5], zz * g[6]};
        const float l[3] = {SQRT3 * g[3], SQRT3 * g[1], SQRT3 * g[2]};
        std::memcpy(p.Q[c], Q, sizeof Q);
        std::memcpy(p.l[c], l, sizeof l);
        p.m[c] = g[0] - 0.5f * SQRT5 * g[6];
    }
    return p;
}

// Places of the sums that a thread keeps for each picture, a tile each.
enum Sum { LOSS, FRONT, BAD, SHIFT, TORQUE = SHIFT + 3, LIGHT = TORQUE + 3, SUMS = LIGHT + 27 };

// A group of vertices in one picture: tile t of axis j lies at j · stride + t · tile.
struct View {
    float *x, *n;    // places and area normals in model axes, until `face`; then in camera axes and of length one
    float* r;        // reflectance
    float* inverse;  // at t · stride: 1 over the area normal's length where the vertex is seen, else 0
    int stride, tile;
};

// ---- Sampling ---------------------------------------------------------------------------------------------------

// Two neighbours of a row of the image at each vertex: from[place] and from[place + 1].
inline void neighbours(const float* from, const int32_t* place, Tile& left, Tile& right) {
    // Loads of two floats at once and shuffles; the processors' gathers are slower.
    typedef double Pairs __attribute__((vector_size(16)));
    auto pair = [&](int i) {
        double both;
        std::memcpy(&both, from + place[i], sizeof both);
        return both;
    };
    Quad l[4], r[4];
    for (int q = 0; q < 4; ++q) {
        const Quad a = (Quad)Pairs{pair(4 * q), pair(4 * q + 1)}, b = (Quad)Pairs{pair(4 * q + 2), pair(4 * q + 3)};
        l[q] = pick<0, 2, 4, 6>(a, b);
        r[q] = pick<1, 3, 5, 7>(a, b);
    }
    left = joined(l[0], l[1], l[2], l[3]);
    right = joined(r[0], r[1], r[2], r[3]);
}

// Where vertices in camera axes lie in the image.
struct Spot {
    Mask far;                    // in front of the nearest place
    Tile inverse_z, scale;       // 1 / z, focal / z
    Mask place;                  // of the upper left of the four pixels around, from the plane's begin
    Tile fu, fv;                 // fractions of a pixel from there
    Mask inside_u, inside_v;
};
inline Spot locate(const Camera& camera, const Batch& batch, const Three& x) {
    const int W = batch.width, H = batch.height;
    const Tile right = every(W - 1.0f), bottom = every(H - 1.0f), zero = {};
    Spot s;
    s.far = x.z > camera.nearest;
    s.inverse_z = 1.0f / (s.far ? x.z : zero + camera.nearest);
    s.scale = camera.focal * s.inverse_z;
    Tile u = x.x * s.scale + (camera.centre_x - 0.5f), v = x.y * s.scale + (camera.centre_y - 0.5f);
    s.inside_u = (u > zero) & (u < right);
    s.inside_v = (v > zero) & (v < bottom);
    // In this order a NaN becomes 0 and reads inside the image.
    u = u > zero ? u : zero;
    v = v > zero ? v : zero;
    u = u < right ? u : right;
    v = v < bottom ? v : bottom;
    Mask column = __builtin_convertvector(u, Mask), row = __builtin_convertvector(v, Mask);
    column = column > W - 2 ? Mask{} + (W - 2) : column;
    row = row > H - 2 ? Mask{} + (H - 2) : row;
    s.fu = u - __builtin_convertvector(column, Tile);
    s.fv = v - __builtin_convertvector(row, Tile);
    s.place = row * W + column;
    return s;
}

// Begins to bring a tile's pixels into the cache.
inline void fetch(const float* image, const Batch& batch, const Spot& s) {
    int32_t place[LANES];
    std::memcpy(place, &s.place, sizeof place);
    asm("" : "+m"(place));
    for (int c = 0; c < 3; ++c, image += batch.width * batch.height)
        for (int i = 1; i < LANES; i += 2) __builtin_prefetch(image + place[i], 0, 2);
}

// The image and its derivative by the place, bilinear between pixel centres; outside, the border's colour goes on.
struct Sample {
    Tile value[3], du[3], dv[3];
};
inline Sample sample(const float* image, const Batch& batch, const Spot& s) {
    int32_t place[LANES];
    std::memcpy(place, &s.place, sizeof place);
    // Through memory: taking lanes out of a vector one by one is slower than loading them.
    asm("" : "+m"(place));
    const Tile zero = {};
    Sample out;
    for (int c = 0; c < 3; ++c, image += batch.width * batch.height) {
        Tile a, b, d, e;
        neighbours(image, place, a, b);
        neighbours(image + batch.width, place, d, e);
        const Tile top = a + s.fu * (b - a), low = d + s.fu * (e - d);
        out.value[c] = top + s.fv * (low - top);
        const Tile across = (b - a) + s.fv * ((e - d) - (b - a));
        out.du[c] = s.inside_u ? across : zero;
        out.dv[c] = s.inside_v ? low - top : zero;
    }
    return out;
}

// ---- The loss ---------------------------------------------------------------------------------------------------

// Turns a tile into camera axes and tells whether any of its first `count` vertices faces the camera.
template <bool FETCH>
inline bool face(const Picture& p, const Camera& camera, const Batch& batch, const View& v, int t, int count, float* sums) {
    float *at_x = v.x + t * v.tile, *at_n = v.n + t * v.tile;
    Three n = load3(at_n, v.stride);
    const Tile zero = {}, square = dot(n, n);
    const Mask flat = square == 0;
    Tile inverse = 1.0f / root(flat ? every(1) : square);
    inverse = flat ? zero : inverse;
    n = turned(p.pose.R, n * inverse);
    Three x = turned(p.pose.R, load3(at_x, v.stride));
    x = {x.x + p.pose.t[0], x.y + p.pose.t[1], x.z + p.pose.t[2]};
    const Tile towards = dot(x, n);
    const Mask counts = counting() < count, front = counts & (towards < 0);
    // A number times 0 is 0, anything else is not.
    add(sums + BAD * LANES, counts ? towards * 0.0f : zero);
    const bool seen = any(front);
    if (!seen) return false;
    add(sums + FRONT * LANES, front ? every(1) : zero);
    store3(at_x, v.stride, x);
    store3(at_n, v.stride, n);
    store(v.inverse + t * v.stride, front ? inverse : zero);
    if constexpr (FETCH) fetch(p.image, batch, locate(camera, batch, x));
    return true;
}

// Σ over tiles of the gradient by the shading times each harmonic's polynomial, into sums.
inline void gather_light(const Tile (*gradient)[3], const Three* normals, int tiles, float* sums) {
    for (int c = 0; c < 3; ++c) {
        Tile sum[9] = {};
        for (int t = 0; t < tiles; ++t) {
            const Three& n = normals[t];
            const Tile g = gradient[t][c], gx = g * n.x, gy = g * n.y, gz = g * n.z;
            sum[0] += g;
            sum[1] += gy;
            sum[2] += gz;
            sum[3] += gx;
            sum[4] += gx * n.y;
            sum[5] += gy * n.z;
            sum[6] += 3.0f * gz * n.z - g;
            sum[7] += gx * n.z;
            sum[8] += gx * n.x - gy * n.y;
        }
        for (int k = 0; k < 9; ++k) add(sums + (LIGHT + 3 * k + c) * LANES, sum[k]);
    }
}

// The loss of a group's tiles that are seen (bits) and, if asked for, its gradient: by places and area normals in model axes
// and by reflectance in place of these, by pose and light into sums.
inline void compare(const Picture& p, const Camera& camera, const Batch& batch, uint32_t seen, const View& view, bool gradient,
                    float* sums) {
    const Tile zero = {}, one = zero + 1;
    Tile loss = {}, by_shading[TILES][3];
    Three shift = {}, torque = {}, normals[TILES];
    int tiles = 0;
    for (int t = 0; t < TILES; ++t) {
        float *at_x = view.x + t * view.tile, *at_n = view.n + t * view.tile, *at_r = view.r + t * view.tile;
        if (!(seen >> t & 1)) {
            for (float* at : {at_x, at_n, at_r}) store3(at, view.stride, Three{});
            continue;
        }
        const Three x = load3(at_x, view.stride), n = load3(at_n, view.stride);
        const Tile inverse = load(view.inverse + t * view.stride);
        const Mask front = inverse > zero;
        const Spot spot = locate(camera, batch, x);
        const Sample I = sample(p.image, batch, spot);
        Tile reflectance[3], difference[3], shading[3], square = {};
        Three slope[3];  // Q n, then the shading's derivative
        for (int c = 0; c < 3; ++c) {
            const float *Q = p.Q[c], *l = p.l[c];
            slope[c] = {Q[0] * n.x + Q[1] * n.y + Q[2] * n.z, Q[1] * n.x - Q[0] * n.y + Q[3] * n.z,
                        Q[2] * n.x + Q[3] * n.y + Q[4] * n.z};
            shading[c] = p.m[c] + n.x * (slope[c].x + l[0]) + n.y * (slope[c].y + l[1]) + n.z * (slope[c].z + l[2]);
            slope[c] = {2.0f * slope[c].x + l[0], 2.0f * slope[c].y + l[1], 2.0f * slope[c].z + l[2]};
            reflectance[c] = load(at_r + c * view.stride);
            difference[c] = I.value[c] - reflectance[c] * shading[c];
            square += difference[c] * difference[c];
        }
        const Tile distance = root(square);
        // A NaN must stay one: hidden vertices are left out by choice, not by multiplying.
        loss += front ? distance : zero;
        if (!gradient) continue;
        const Tile unit = (front & (square > zero)) ? one / distance : zero;
        Tile gu = {}, gv = {};
        Three gn = {};
        for (int c = 0; c < 3; ++c) {
            const Tile g = front ? difference[c] * unit : zero, by = -g * reflectance[c];
            gu += g * I.du[c];
            gv += g * I.dv[c];
            gn = gn + slope[c] * by;
            by_shading[tiles][c] = by;
            store(at_r + c * view.stride, -g * shading[c]);
        }
        normals[tiles++] = n;
        const Three gx = {gu * spot.scale, gv * spot.scale,
                          spot.far ? -(gu * x.x + gv * x.y) * spot.scale * spot.inverse_z : zero};
        const Three from_centre = {x.x - p.pose.t[0], x.y - p.pose.t[1], x.z - p.pose.t[2]};
        shift = shift + gx;
        torque = torque + cross(from_centre, gx) + cross(n, gn);
        store3(at_x, view.stride, turned_back(p.pose.R, gx));
        store3(at_n, view.stride, turned_back(p.pose.R, (gn - n * dot(n, gn)) * inverse));
    }
    add(sums + LOSS * LANES, loss);
    if (!gradient) return;
    float* s = sums + SHIFT * LANES;
    for (const Tile& v : {shift.x, shift.y, shift.z, torque.x, torque.y, torque.z}) add(s, v), s += LANES;
    gather_light(by_shading, normals, tiles, sums);
}

}  // namespace
