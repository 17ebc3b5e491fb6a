// The decoder and its loss with their gradient in one pass over the face model (equations 1 to 10), for the CPU.
//
// Plain C++17 behind a C interface, without Python's or PyTorch's headers. Vectors are GCC's and Clang's: the compiler
// turns them into AVX-512, AVX2 or NEON. Two ways of using a vector's lanes meet here:
//   tiles: 16 vertices of one picture, for the products with the bases (LANES);
//   rows:  one vertex in L pictures, for everything that reads a vertex' neighbours: a gather is then a plain load.
// Nothing here depends on the order in which threads run: the same input gives the same bits for one number of threads.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "fused.h"

namespace {

constexpr int LANES = 16;           // vertices in a tile
constexpr int TILES = 4;            // tiles in a group
constexpr int GROUP = LANES * TILES;  // vertices that are worked on together
constexpr int BLOCK = 8;            // pictures whose sums fit in registers

template <int L>
struct VectorOf {
    typedef float type __attribute__((vector_size(L * 4)));
    typedef int32_t mask __attribute__((vector_size(L * 4)));
};
template <int L>
using Vec = typename VectorOf<L>::type;
template <int L>
using Mask = typename VectorOf<L>::mask;
using Tile = Vec<LANES>;

template <int L>
inline Vec<L> load(const float* p) {
    Vec<L> v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <int L>
inline void store(float* p, Vec<L> v) {
    std::memcpy(p, &v, sizeof v);
}
template <int L>
inline Vec<L> every(float x) {
    return Vec<L>{} + x;
}
template <int L>
inline Vec<L> root(Vec<L> v) {
    for (int i = 0; i < L; ++i) v[i] = std::sqrt(v[i]);
    return v;
}
template <int L>
inline bool any(Mask<L> m) {
    int32_t s = 0;
    for (int i = 0; i < L; ++i) s |= m[i];
    return s != 0;
}

// Sixteen numbers of a basis as float32, from each kind it may be stored in.
inline Tile widen(const float* p) { return load<LANES>(p); }
inline Tile widen(const uint16_t* p) {
    typedef uint16_t Half __attribute__((vector_size(2 * LANES)));
    typedef uint32_t Word __attribute__((vector_size(4 * LANES)));
    Half h;
    std::memcpy(&h, p, sizeof h);
    return (Tile)(__builtin_convertvector(h, Word) << 16);
}
inline Tile widen(const int8_t* p) {
#ifdef __AVX512F__
    return (Tile)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
    Tile wide;
    for (int i = 0; i < LANES; ++i) wide[i] = p[i];
    return wide;
#endif
}

// ---- Products with a basis -------------------------------------------------------------------------------------

// out[b][axis][lane] = mean + Σ_k basis[k][axis][lane] c[b][k · BLOCK], for the tile's 16 vertices and N pictures.
template <class Number, int N>
void expand_some(const float* mean, const Number* basis, int K, const float* const* c, float* const* out) {
    Tile sum[N][3];
    for (int b = 0; b < N; ++b)
        for (int j = 0; j < 3; ++j) sum[b][j] = load<LANES>(mean + j * LANES);
    for (int k = 0; k < K; ++k, basis += 3 * LANES) {
        const Tile x = widen(basis), y = widen(basis + LANES), z = widen(basis + 2 * LANES);
        for (int b = 0; b < N; ++b) {
            const float w = c[b][k * BLOCK];
            sum[b][0] += w * x;
            sum[b][1] += w * y;
            sum[b][2] += w * z;
        }
    }
    for (int b = 0; b < N; ++b)
        for (int j = 0; j < 3; ++j) store<LANES>(out[b] + j * LANES, sum[b][j]);
}

// into[b][k · BLOCK · LANES] += Σ_axis basis[tile][k][axis] · g[b][tile][axis], lane by lane, over a group of tiles.
template <class Number, int N>
void reduce_some(const Number* basis, int K, const float* const* g, float* const* into) {
    constexpr int AT_ONCE = N > 5 ? 2 : 4;
    int k = 0;
    auto modes = [&](auto count) {
        constexpr int M = decltype(count)::value;
        Tile sum[M][N] = {};
        for (int t = 0; t < TILES; ++t)
            for (int j = 0; j < 3; ++j) {
                Tile v[M];
                for (int m = 0; m < M; ++m)
                    v[m] = widen(basis + ((static_cast<int64_t>(t) * K + k + m) * 3 + j) * LANES);
                for (int b = 0; b < N; ++b) {
                    const Tile w = load<LANES>(g[b] + (t * 3 + j) * LANES);
                    for (int m = 0; m < M; ++m) sum[m][b] += v[m] * w;
                }
            }
        for (int m = 0; m < M; ++m)
            for (int b = 0; b < N; ++b) {
                float* place = into[b] + (k + m) * BLOCK * LANES;
                store<LANES>(place, load<LANES>(place) + sum[m][b]);
            }
    };
    for (; k + AT_ONCE <= K; k += AT_ONCE) modes(std::integral_constant<int, AT_ONCE>());
    for (; k < K; ++k) modes(std::integral_constant<int, 1>());
}

// The templates above by the number of pictures, at most BLOCK.
template <class Number>
void expand(int n, const float* mean, const Number* basis, int K, const float* const* c, float* const* out) {
    static constexpr decltype(&expand_some<Number, 1>) by_count[] = {
        expand_some<Number, 1>, expand_some<Number, 2>, expand_some<Number, 3>, expand_some<Number, 4>,
        expand_some<Number, 5>, expand_some<Number, 6>, expand_some<Number, 7>, expand_some<Number, 8>};
    if (n) by_count[n - 1](mean, basis, K, c, out);
}
template <class Number>
void reduce(int n, const Number* basis, int K, const float* const* g, float* const* into) {
    static constexpr decltype(&reduce_some<Number, 1>) by_count[] = {
        reduce_some<Number, 1>, reduce_some<Number, 2>, reduce_some<Number, 3>, reduce_some<Number, 4>,
        reduce_some<Number, 5>, reduce_some<Number, 6>, reduce_some<Number, 7>, reduce_some<Number, 8>};
    if (n) by_count[n - 1](basis, K, g, into);
}

// A group of tiles of a Basis, whatever its kind.
void expand(const Basis& B, int tile, int n, const float* const* c, float* const* out) {
    const float* mean = B.mean + static_cast<int64_t>(tile) * 3 * LANES;
    const int64_t place = static_cast<int64_t>(tile) * B.modes * 3 * LANES;
    if (B.kind == 0) expand(n, mean, static_cast<const float*>(B.numbers) + place, B.modes, c, out);
    if (B.kind == 1) expand(n, mean, static_cast<const uint16_t*>(B.numbers) + place, B.modes, c, out);
    if (B.kind == 2) expand(n, mean, static_cast<const int8_t*>(B.numbers) + place, B.modes, c, out);
}
void reduce(const Basis& B, int group, int n, const float* const* g, float* const* into) {
    const int64_t place = static_cast<int64_t>(group) * TILES * B.modes * 3 * LANES;
    if (B.kind == 0) reduce(n, static_cast<const float*>(B.numbers) + place, B.modes, g, into);
    if (B.kind == 1) reduce(n, static_cast<const uint16_t*>(B.numbers) + place, B.modes, g, into);
    if (B.kind == 2) reduce(n, static_cast<const int8_t*>(B.numbers) + place, B.modes, g, into);
}

// ---- Threads ---------------------------------------------------------------------------------------------------

// All threads wait here for each other.
class Barrier {
  public:
    explicit Barrier(int threads) : threads_(threads) {}
    void wait() {
        const int turn = turn_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            turn_.store(turn + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins)
            if (spins > 4000) std::this_thread::yield();
    }

  private:
    const int threads_;
    std::atomic<int> arrived_{0}, turn_{0};
};

// ---- Memory ----------------------------------------------------------------------------------------------------

constexpr int round_up(int n, int to) { return (n + to - 1) / to * to; }
// Lanes of a row: what a chunk of pictures is padded to.
int lanes_for(int pictures) { return pictures <= 4 ? 4 : pictures <= 8 ? 8 : 16; }

// Where everything lies in the workspace; counts are of floats.
struct Layout {
    int lanes, chunks, blocks, cage;
    int64_t x, gx, gn, cage_x, coefficients_geometry, coefficients_reflectance, landmark_x, landmark_gx, landmark_sums;
    int64_t thread, thread_geometry, thread_reflectance, thread_pose, thread_scratch, thread_size, total;

    Layout(const Model& m, int pictures, int threads) {
        lanes = lanes_for(pictures);
        chunks = (pictures + lanes - 1) / lanes;
        blocks = chunks * std::max(1, lanes / BLOCK);
        cage = m.geometry.tiles * LANES;
        int64_t at = 0;
        auto take = [&](int64_t floats) {
            const int64_t here = at;
            at += (floats + 15) / 16 * 16;
            return here;
        };
        const int64_t row = 3LL * lanes * chunks, rows = round_up(m.rows, GROUP);
        x = take(rows * row);
        gx = take(rows * row);
        gn = take(rows * row);
        cage_x = take(m.S.start ? cage * row : 0);
        landmark_x = take(static_cast<int64_t>(m.landmarks.tiles) * LANES * row);
        landmark_gx = take(static_cast<int64_t>(m.landmarks.tiles) * LANES * row);
        landmark_sums = take(1LL * blocks * m.landmarks.modes * BLOCK * LANES);
        coefficients_geometry = take(1LL * blocks * m.geometry.modes * BLOCK);
        coefficients_reflectance = take(1LL * blocks * m.reflectance.modes * BLOCK);
        thread = at;
        at = 0;
        thread_geometry = take(1LL * blocks * m.geometry.modes * BLOCK * LANES);
        thread_reflectance = take(1LL * blocks * m.reflectance.modes * BLOCK * LANES);
        thread_pose = take(1LL * chunks * POSE * lanes);
        thread_scratch = take(SCRATCH * lanes + 3LL * GROUP * std::max(lanes, BLOCK));
        thread_size = at;
        total = thread + thread_size * threads;
    }
    // Sums that a thread keeps for each picture: loss, front, bad, translation 3, torque 3, light 27.
    static constexpr int LOSS = 0, FRONT = 1, BAD = 2, SHIFT = 3, TORQUE = 6, LIGHT = 9, POSE = 36;
    // What a group keeps for each vertex between its passes: place 3, normal 3, 1/length, front; reflectance 3, shading's gradient 3.
    static constexpr int KEPT = 8;
    static constexpr int64_t SCRATCH = GROUP * (KEPT + 3 + 3);
};

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

// What a chunk of pictures needs at every vertex, a lane a picture.
template <int L>
struct Lights {
    Vec<L> R[9], t[3];
    // The radiosity of a channel is m + n·(l + Q n), Q of xx xy xz yz zz with yy = −xx.
    Vec<L> Q[3][5], l[3][3], m[3];
    const float* image;  // of the first picture
    Mask<L> start;       // where each picture begins after it
    int pictures;
};

const float SQRT3 = 1.7320508075688772f, SQRT15 = 3.872983346207417f, SQRT5 = 2.23606797749979f;

template <int L>
Lights<L> lights_of(const Model& m, const Camera& camera, const Batch& batch, const Pose* poses, int first) {
    Lights<L> s = {};
    s.pictures = std::min(L, batch.pictures - first);
    s.image = batch.image + 3LL * first * batch.height * batch.width;
    const int start = m.shape_expression + m.reflectance_modes + 6;
    for (int i = 0; i < L; ++i) {
        // Lanes without a picture repeat the last one; their front is masked.
        const int b = first + std::min(i, s.pictures - 1);
        for (int j = 0; j < 9; ++j) s.R[j][i] = poses[b].R[j];
        for (int j = 0; j < 3; ++j) s.t[j][i] = poses[b].t[j];
        s.start[i] = 3 * (b - first) * batch.height * batch.width;
        for (int c = 0; c < 3; ++c) {
            float g[9];
            for (int k = 0; k < 9; ++k) g[k] = batch.codes[1LL * b * batch.code_size + start + 3 * k + c];
            g[0] += camera.ambient;
            const float h = 0.5f * SQRT15, zz = 1.5f * SQRT5;
            s.Q[c][0][i] = h * g[8];
            s.Q[c][1][i] = h * g[4];
            s.Q[c][2][i] = h * g[7];
            s.Q[c][3][i] = h * g[5];
            s.Q[c][4][i] = zz * g[6];
            s.l[c][0][i] = SQRT3 * g[3];
            s.l[c][1][i] = SQRT3 * g[1];
            s.l[c][2][i] = SQRT3 * g[2];
            s.m[c][i] = g[0] - 0.5f * SQRT5 * g[6];
        }
    }
    return s;
}

// ---- The loss of a group of frontal vertices -------------------------------------------------------------------

// Everything that one thread knows about the chunk of pictures it works on.
template <int L>
struct Work {
    const Model& m;
    const Camera& camera;
    const Batch& batch;
    const Lights<L>& s;
    const float* x;  // the chunk's rows [rows][3][L]
    float* gx;
    float* gn;
    float* sums;     // [POSE][L]
    float* scratch;
    float* tiles;    // [BLOCK][TILES][3][LANES]
    bool gradient;
    const char* next;  // the basis of the thread's next group, fetched while this one is worked on
    int lines;         // cache lines of it for each vertex
};

template <int L>
struct Three {
    Vec<L> x, y, z;
};
template <int L>
inline Three<L> load3(const float* p) {
    return {load<L>(p), load<L>(p + L), load<L>(p + 2 * L)};
}
template <int L>
inline void store3(float* p, const Three<L>& v) {
    store<L>(p, v.x);
    store<L>(p + L, v.y);
    store<L>(p + 2 * L, v.z);
}
template <int L>
inline Three<L> operator+(const Three<L>& a, const Three<L>& b) {
    return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <int L>
inline Three<L> operator-(const Three<L>& a, const Three<L>& b) {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <int L>
inline Three<L> cross(const Three<L>& a, const Three<L>& b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
template <int L>
inline Vec<L> dot(const Three<L>& a, const Three<L>& b) {
    return a.x * b.x + a.y * b.y + a.z * b.z;
}
template <int L>
inline Three<L> turned(const Vec<L>* R, const Three<L>& v) {
    return {R[0] * v.x + R[1] * v.y + R[2] * v.z, R[3] * v.x + R[4] * v.y + R[5] * v.z,
            R[6] * v.x + R[7] * v.y + R[8] * v.z};
}
template <int L>
inline Three<L> turned_back(const Vec<L>* R, const Three<L>& v) {
    return {R[0] * v.x + R[3] * v.y + R[6] * v.z, R[1] * v.x + R[4] * v.y + R[7] * v.z,
            R[2] * v.x + R[5] * v.y + R[8] * v.z};
}
template <int L>
inline void add(float* p, Vec<L> v) {
    store<L>(p, load<L>(p) + v);
}

// Places, normals and fronts of a group's vertices; returns the lanes (as bits) in which any vertex is seen.
template <int L>
uint32_t look(const Work<L>& w, int first, int count) {
    Vec<L> bad = {}, seen = {};
    for (int i = 0; i < count; ++i) {
        const int v = first + i;
        for (int line = 0; line < w.lines; ++line) __builtin_prefetch(w.next + (i * w.lines + line) * 64, 0, 2);
        const Three<L> x = load3<L>(w.x + 3LL * L * v);
        Three<L> n = {};
        for (int e = w.m.ring.start[v]; e < w.m.ring.start[v + 1]; e += 2) {
            const Three<L> p = load3<L>(w.x + 3LL * L * w.m.ring.column[e]) - x;
            const Three<L> q = load3<L>(w.x + 3LL * L * w.m.ring.column[e + 1]) - x;
            n = n + cross<L>(p, q);
        }
        const Vec<L> square = dot<L>(n, n);
        const Mask<L> flat = square == 0;
        Vec<L> inverse = 1.0f / root<L>(flat ? every<L>(1) : square);
        inverse = flat ? every<L>(0) : inverse;
        n = turned<L>(w.s.R, {n.x * inverse, n.y * inverse, n.z * inverse});
        Three<L> c = turned<L>(w.s.R, x);
        c = {c.x + w.s.t[0], c.y + w.s.t[1], c.z + w.s.t[2]};
        const Vec<L> towards = dot<L>(c, n);
        bad += towards * 0.0f;
        const Vec<L> front = towards < 0 ? every<L>(1) : every<L>(0);
        seen += front;
        float* kept = w.scratch + i * Layout::KEPT * L;
        store3<L>(kept, c);
        store3<L>(kept + 3 * L, n);
        store<L>(kept + 6 * L, inverse);
        store<L>(kept + 7 * L, front);
    }
    add<L>(w.sums + Layout::BAD * L, bad);
    add<L>(w.sums + Layout::FRONT * L, seen);
    uint32_t lanes = 0;
    for (int i = 0; i < w.s.pictures; ++i)
        if (seen[i] > 0) lanes |= 1u << i;
    return lanes;
}

// Two neighbours of a row of the image in every lane: from[place] and from[place + 1].
template <int L>
inline void neighbours(const float* from, Mask<L> place, Vec<L>& left, Vec<L>& right) {
#ifdef __AVX512F__
    if constexpr (L == 8) {
        const __m512i both = _mm512_castpd_si512(_mm512_i32gather_pd((__m256i)place, from, 4));
        left = (Vec<L>)_mm512_cvtepi64_epi32(both);
        right = (Vec<L>)_mm512_cvtepi64_epi32(_mm512_srli_epi64(both, 32));
        return;
    }
    if constexpr (L == 16) {
        const __m512i indices = (__m512i)place;
        left = (Vec<L>)_mm512_i32gather_ps(indices, from, 4);
        right = (Vec<L>)_mm512_i32gather_ps(indices, from + 1, 4);
        return;
    }
#endif
    float pair[L][2];
    for (int i = 0; i < L; ++i) std::memcpy(pair[i], from + place[i], sizeof pair[i]);
    for (int i = 0; i < L; ++i) left[i] = pair[i][0], right[i] = pair[i][1];
}

// The image and its derivative by the place, bilinear between pixel centres; outside, the border's colour goes on.
template <int L>
struct Sample {
    Vec<L> value[3], du[3], dv[3];
};
template <int L>
inline Sample<L> sample(const Work<L>& w, Vec<L> u, Vec<L> v) {
    const int W = w.batch.width, H = w.batch.height;
    const Vec<L> right = every<L>(W - 1.0f), bottom = every<L>(H - 1.0f), zero = every<L>(0);
    u -= 0.5f;
    v -= 0.5f;
    const Mask<L> inside_u = (u > zero) & (u < right), inside_v = (v > zero) & (v < bottom);
    // In this order a NaN becomes 0 and reads inside the image.
    u = u > zero ? u : zero;
    v = v > zero ? v : zero;
    u = u < right ? u : right;
    v = v < bottom ? v : bottom;
    Mask<L> column = __builtin_convertvector(u, Mask<L>), row = __builtin_convertvector(v, Mask<L>);
    column = column > W - 2 ? Mask<L>{} + (W - 2) : column;
    row = row > H - 2 ? Mask<L>{} + (H - 2) : row;
    const Vec<L> fu = u - __builtin_convertvector(column, Vec<L>), fv = v - __builtin_convertvector(row, Vec<L>);
    const Mask<L> place = w.s.start + row * W + column;
    const int32_t plane = W * H;
    Sample<L> out;
    for (int c = 0; c < 3; ++c) {
        Vec<L> a, b, d, e;
        neighbours<L>(w.s.image + c * plane, place, a, b);
        neighbours<L>(w.s.image + c * plane + W, place, d, e);
        const Vec<L> top = a + fu * (b - a), low = d + fu * (e - d);
        out.value[c] = top + fv * (low - top);
        const Vec<L> across = (b - a) + fv * ((e - d) - (b - a));
        out.du[c] = inside_u ? across : zero;
        out.dv[c] = inside_v ? low - top : zero;
    }
    return out;
}

// The loss of a group and, if asked for, its gradient by places and normals (into gx and gn), pose and light (into sums),
// and reflectance (in place of the reflectance itself).
template <int L>
void compare(const Work<L>& w, int first, int count, float* reflectance, float* shading_gradient) {
    const Vec<L> zero = {}, one = zero + 1;
    const Camera& camera = w.camera;
    Vec<L> loss = {};
    Three<L> shift = {}, torque = {};
    for (int i = 0; i < count; ++i) {
        const float* kept = w.scratch + i * Layout::KEPT * L;
        float* own = reflectance + 3LL * i * L;
        float* gx_row = w.gx + 3LL * L * (first + i);
        float* gn_row = w.gn + 3LL * L * (first + i);
        const Vec<L> front = load<L>(kept + 7 * L);
        if (!any<L>(front > zero)) {
            if (w.gradient) {
                for (float* p : {own, gx_row, gn_row, shading_gradient + 3LL * i * L}) store3<L>(p, Three<L>{});
            }
            continue;
        }
        const Three<L> x = load3<L>(kept), n = load3<L>(kept + 3 * L);
        const Mask<L> far = x.z > camera.nearest;
        const Vec<L> inverse_z = one / (far ? x.z : zero + camera.nearest);
        const Vec<L> scale = camera.focal * inverse_z;
        const Vec<L> u = x.x * scale + camera.centre_x, v = x.y * scale + camera.centre_y;
        const Sample<L> I = sample<L>(w, u, v);
        const float* r = own;
        Vec<L> difference[3], shading[3], square = {};
        Three<L> slope[3];  // Q n
        for (int c = 0; c < 3; ++c) {
            const Vec<L>* Q = w.s.Q[c];
            slope[c] = {Q[0] * n.x + Q[1] * n.y + Q[2] * n.z, Q[1] * n.x - Q[0] * n.y + Q[3] * n.z,
                        Q[2] * n.x + Q[3] * n.y + Q[4] * n.z};
            const Three<L> l = {w.s.l[c][0], w.s.l[c][1], w.s.l[c][2]};
            shading[c] = w.s.m[c] + dot<L>(n, slope[c] + l);
            slope[c] = slope[c] + slope[c] + l;
            difference[c] = I.value[c] - load<L>(r + c * L) * shading[c];
            square += difference[c] * difference[c];
        }
        const Vec<L> distance = root<L>(square);
        // A NaN must stay one: hidden vertices are left out by choice, not by multiplying.
        const Mask<L> seen = front > zero;
        loss += seen ? distance : zero;
        if (!w.gradient) continue;
        const Vec<L> unit = (seen & (square > zero)) ? one / distance : zero;
        Vec<L> gu = {}, gv = {};
        Three<L> gn = {};
        for (int c = 0; c < 3; ++c) {
            const Vec<L> g = seen ? difference[c] * unit : zero;
            gu += g * I.du[c];
            gv += g * I.dv[c];
            const Vec<L> by_shading = -g * load<L>(r + c * L);
            gn = gn + Three<L>{by_shading * slope[c].x, by_shading * slope[c].y, by_shading * slope[c].z};
            store<L>(shading_gradient + (3LL * i + c) * L, by_shading);
            store<L>(own + c * L, -g * shading[c]);
        }
        const Three<L> gx = {gu * scale, gv * scale,
                             far ? -(gu * x.x + gv * x.y) * scale * inverse_z : zero};
        shift = shift + gx;
        torque = torque + cross<L>(x - Three<L>{w.s.t[0], w.s.t[1], w.s.t[2]}, gx) + cross<L>(n, gn);
        const Vec<L> along = dot<L>(n, gn), inverse = load<L>(kept + 6 * L);
        gn = {(gn.x - along * n.x) * inverse, (gn.y - along * n.y) * inverse, (gn.z - along * n.z) * inverse};
        store3<L>(gx_row, turned_back<L>(w.s.R, gx));
        store3<L>(gn_row, turned_back<L>(w.s.R, gn));
    }
    add<L>(w.sums + Layout::LOSS * L, loss);
    float* s = w.sums + Layout::SHIFT * L;
    for (const Vec<L>& v : {shift.x, shift.y, shift.z, torque.x, torque.y, torque.z}) add<L>(s, v), s += L;
}

// Σ over a group of the shading's gradient times each harmonic's polynomial, into sums.
template <int L>
void gather_light(const Work<L>& w, int count, const float* shading_gradient) {
    for (int c = 0; c < 3; ++c) {
        Vec<L> sum[9] = {};
        for (int i = 0; i < count; ++i) {
            const Three<L> n = load3<L>(w.scratch + (i * Layout::KEPT + 3) * L);
            const Vec<L> g = load<L>(shading_gradient + (3LL * i + c) * L);
            const Vec<L> gx = g * n.x, gy = g * n.y, gz = g * n.z;
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
        for (int k = 0; k < 9; ++k) add<L>(w.sums + (Layout::LIGHT + 3 * k + c) * L, sum[k]);
    }
}

// ---- Between rows and tiles ------------------------------------------------------------------------------------

// tiles[j][t][axis][lane] = rows[vertex][axis][lanes[j]] for the pictures in `lanes`; missing vertices are zero.
void to_tiles(const float* rows, int L, int count, const int* lanes, int n, float* tiles) {
    for (int j = 0; j < n; ++j)
        for (int t = 0; t < TILES; ++t)
            for (int axis = 0; axis < 3; ++axis) {
                float* out = tiles + ((j * TILES + t) * 3 + axis) * LANES;
                const float* in = rows + (3LL * t * LANES + axis) * L + lanes[j];
                for (int i = 0; i < LANES; ++i) out[i] = t * LANES + i < count ? in[3LL * i * L] : 0.0f;
            }
}

// The reverse for one tile: rows[vertex][axis][lanes[j]] = tile[j][axis][vertex], `stride` floats from picture to picture.
void to_rows(const float* tile, int stride, const int* lanes, int n, int L, float* rows) {
    for (int i = 0; i < LANES; ++i)
        for (int axis = 0; axis < 3; ++axis)
            for (int j = 0; j < n; ++j)
                rows[(3LL * i + axis) * L + lanes[j]] = tile[j * stride + axis * LANES + i];
}

// ---- One call --------------------------------------------------------------------------------------------------

class Call {
  public:
    Call(const Model& m, const Camera& camera, const Batch& batch, float* memory, int threads)
        : m_(m), camera_(camera), batch_(batch), memory_(memory), threads_(threads), at_(m, batch.pictures, threads),
          barrier_(threads), gradient_(batch.photo_gradient != nullptr), poses_(batch.pictures) {
        const int turn = m.shape_expression + m.reflectance_modes;
        for (int b = 0; b < batch.pictures; ++b) {
            const float* code = batch.codes + 1LL * b * batch.code_size;
            poses_[b] = pose_of(code + turn, code + turn + 3, camera.distance);
        }
        scale(m.geometry, 0, memory_ + at_.coefficients_geometry);
        scale(m.reflectance, m.shape_expression, memory_ + at_.coefficients_reflectance);
    }

    void run() {
        std::vector<std::thread> others;
        for (int t = 1; t < threads_; ++t) others.emplace_back([this, t] { work(t); });
        work(0);
        for (auto& t : others) t.join();
        finish();
    }

  private:
    // Coefficients [block][mode][BLOCK], times what a stored number is worth.
    void scale(const Basis& B, int first, float* out) const {
        std::memset(out, 0, sizeof(float) * at_.blocks * B.modes * BLOCK);
        for (int b = 0; b < batch_.pictures; ++b)
            for (int k = 0; k < B.modes; ++k)
                out[(static_cast<int64_t>(b / BLOCK) * B.modes + k) * BLOCK + b % BLOCK] =
                    batch_.codes[1LL * b * batch_.code_size + first + k] * B.scale[k];
    }

    void work(int thread) {
        float* own = memory_ + at_.thread + thread * at_.thread_size;
        std::memset(own, 0, sizeof(float) * at_.thread_scratch);
        geometry(thread);
        if (thread == threads_ - 1) landmarks(own);
        barrier_.wait();
        if (m_.S.start) {
            by_lanes([&](auto L) { subdivide<L.value>(thread); });
            barrier_.wait();
        }
        by_lanes([&](auto L) { photometric<L.value>(thread, own); });
        if (!gradient_) return;
        barrier_.wait();
        by_lanes([&](auto L) { normals_backward<L.value>(thread, own); });
        if (m_.S.start) {
            barrier_.wait();
            by_lanes([&](auto L) { cage_backward<L.value>(thread, own); });
        }
    }

    template <class F>
    void by_lanes(F f) const {
        if (at_.lanes == 4) f(std::integral_constant<int, 4>());
        if (at_.lanes == 8) f(std::integral_constant<int, 8>());
        if (at_.lanes == 16) f(std::integral_constant<int, 16>());
    }

    int pictures_of(int block) const { return std::min(BLOCK, batch_.pictures - block * BLOCK); }

    // Rows of the cage, or of the vertices themselves, of all pictures: equation 2.
    void geometry(int thread) {
        float* rows = memory_ + (m_.S.start ? at_.cage_x : at_.x);
        const int64_t chunk_size = 3LL * at_.lanes * (m_.S.start ? at_.cage : round_up(m_.rows, GROUP));
        for (int tile = thread; tile < m_.geometry.tiles; tile += threads_)
            expand_rows(m_.geometry, tile, memory_ + at_.coefficients_geometry, rows, chunk_size);
    }

    void expand_rows(const Basis& B, int tile, const float* coefficients, float* rows, int64_t chunk_size) const {
        alignas(64) float sums[BLOCK * 3 * LANES];
        for (int block = 0; block * BLOCK < batch_.pictures; ++block) {
            const int n = pictures_of(block), first = block * BLOCK % at_.lanes;
            const float* c[BLOCK];
            float* out[BLOCK];
            int lanes[BLOCK];
            for (int j = 0; j < n; ++j) {
                c[j] = coefficients + static_cast<int64_t>(block) * B.modes * BLOCK + j;
                out[j] = sums + j * 3 * LANES;
                lanes[j] = first + j;
            }
            expand(B, tile, n, c, out);
            float* place = rows + block * BLOCK / at_.lanes * chunk_size + 3LL * tile * LANES * at_.lanes;
            to_rows(sums, 3 * LANES, lanes, n, at_.lanes, place);
            // Lanes without a picture repeat the last one: what memory held before must not become a slow number.
            for (int lane = first + n; lane < at_.lanes; ++lane)
                for (int i = 0; i < 3 * LANES; ++i) place[i * at_.lanes + lane] = place[i * at_.lanes + first + n - 1];
        }
    }

    template <int L>
    void subdivide(int thread) {
        for (int chunk = 0; chunk < at_.chunks; ++chunk) {
            const float* cage = memory_ + at_.cage_x + 3LL * L * at_.cage * chunk;
            float* x = rows<L>(at_.x, chunk);
            for (int first = thread * GROUP; first < m_.rows; first += threads_ * GROUP)
                for (int v = first; v < std::min(first + GROUP, m_.rows); ++v)
                    store3<L>(x + 3LL * L * v, combined<L>(m_.S, v, cage));
        }
    }

    template <int L>
    static Three<L> combined(const Rows& S, int row, const float* from) {
        Three<L> sum = {};
        for (int e = S.start[row]; e < S.start[row + 1]; ++e) {
            const Three<L> x = load3<L>(from + 3LL * L * S.column[e]);
            const float s = S.value[e];
            sum = {sum.x + s * x.x, sum.y + s * x.y, sum.z + s * x.z};
        }
        return sum;
    }

    template <int L>
    float* rows(int64_t place, int chunk) const {
        return memory_ + place + 3LL * L * round_up(m_.rows, GROUP) * chunk;
    }

    template <int L>
    void photometric(int thread, float* own) {
        std::vector<Lights<L>> lights;
        for (int chunk = 0; chunk < at_.chunks; ++chunk)
            lights.push_back(lights_of<L>(m_, camera_, batch_, poses_.data(), chunk * L));
        float* scratch = own + at_.thread_scratch;
        float* reflectance = scratch + GROUP * Layout::KEPT * L;
        float* shading_gradient = reflectance + GROUP * 3 * L;
        float* tiles = shading_gradient + GROUP * 3 * L;
        const int64_t number = m_.reflectance.kind == 0 ? 4 : m_.reflectance.kind == 1 ? 2 : 1;
        const int64_t bytes = number * GROUP * 3 * m_.reflectance.modes;
        for (int group = thread; group * GROUP < m_.frontal; group += threads_) {
            const int first = group * GROUP, count = std::min(GROUP, m_.frontal - first);
            const char* next = static_cast<const char*>(m_.reflectance.numbers) + (group + threads_) * bytes;
            const int lines = (group + threads_) * GROUP < m_.frontal ? static_cast<int>(bytes / (64 * GROUP)) : 0;
            for (int chunk = 0; chunk < at_.chunks; ++chunk) {
                const Work<L> w = {m_, camera_, batch_, lights[chunk], rows<L>(at_.x, chunk), rows<L>(at_.gx, chunk),
                                   rows<L>(at_.gn, chunk), own + at_.thread_pose + Layout::POSE * L * chunk, scratch,
                                   tiles, gradient_, next, chunk ? 0 : lines};
                const uint32_t seen = look<L>(w, first, count);
                if (!seen && !gradient_) continue;
                if (seen) expand_seen<L>(seen, chunk, group, tiles, reflectance);
                compare<L>(w, first, count, reflectance, shading_gradient);
                if (!seen || !gradient_) continue;
                gather_light<L>(w, count, shading_gradient);
                into_sums<L>(m_.reflectance, group, chunk, seen, reflectance, count, tiles, own + at_.thread_reflectance);
            }
        }
    }

    // Reflectance of a group in the pictures that see any of it: equation 3.
    template <int L>
    void expand_seen(uint32_t seen, int chunk, int group, float* tiles, float* reflectance) const {
        for (int start = 0; start < L; start += BLOCK) {
            int lanes[BLOCK], n = 0;
            const float* c[BLOCK];
            float* out[BLOCK];
            const int block = (chunk * L + start) / BLOCK;
            for (int i = start; i < std::min(L, start + BLOCK); ++i)
                if (seen >> i & 1) {
                    c[n] = memory_ + at_.coefficients_reflectance +
                           static_cast<int64_t>(block) * m_.reflectance.modes * BLOCK + (i - start);
                    out[n] = tiles + n * 3 * LANES;
                    lanes[n++] = i;
                }
            for (int t = 0; n && t < TILES; ++t) {
                expand(m_.reflectance, group * TILES + t, n, c, out);
                to_rows(tiles, 3 * LANES, lanes, n, L, reflectance + 3LL * t * LANES * L);
            }
        }
    }

    // Pull a group's rows of gradients back to the modes of a basis.
    template <int L>
    void into_sums(const Basis& B, int group, int chunk, uint32_t lanes_wanted, const float* rows, int count, float* tiles,
                   float* sums) const {
        for (int start = 0; start < L; start += BLOCK) {
            int lanes[BLOCK], n = 0;
            const float* g[BLOCK];
            float* into[BLOCK];
            const int block = (chunk * L + start) / BLOCK;
            for (int i = start; i < std::min(L, start + BLOCK); ++i)
                if (lanes_wanted >> i & 1) {
                    g[n] = tiles + n * TILES * 3 * LANES;
                    into[n] = sums + (static_cast<int64_t>(block) * B.modes * BLOCK + (i - start)) * LANES;
                    lanes[n++] = i;
                }
            if (!n) continue;
            to_tiles(rows, L, count, lanes, n, tiles);
            reduce(B, group, n, g, into);
        }
    }

    uint32_t all_of(int chunk, int L) const {
        const int n = std::min(L, batch_.pictures - chunk * L);
        return n == 32 ? ~0u : (1u << n) - 1;
    }

    // A corner v of a triangle (v, p, q) turns its area vector (p − v) × (q − v): dE/dv = Σ (p − q) × (g_v + g_p + g_q).
    template <int L>
    void normals_backward(int thread, float* own) {
        float* scratch = own + at_.thread_scratch;
        float* tiles = scratch + GROUP * (Layout::KEPT + 6) * L;
        for (int group = thread; group * GROUP < m_.rows; group += threads_) {
            const int first = group * GROUP, count = std::min(GROUP, m_.rows - first);
            for (int chunk = 0; chunk < at_.chunks; ++chunk) {
                const float *x = rows<L>(at_.x, chunk), *gn = rows<L>(at_.gn, chunk);
                float* gx = rows<L>(at_.gx, chunk);
                auto normal = [&](int v) { return v < m_.frontal ? load3<L>(gn + 3LL * L * v) : Three<L>{}; };
                for (int v = first; v < first + count; ++v) {
                    Three<L> sum = v < m_.frontal ? load3<L>(gx + 3LL * L * v) : Three<L>{};
                    const Three<L> here = normal(v);
                    for (int e = m_.ring.start[v]; e < m_.ring.start[v + 1]; e += 2) {
                        const int p = m_.ring.column[e], q = m_.ring.column[e + 1];
                        sum = sum + cross<L>(load3<L>(x + 3LL * L * p) - load3<L>(x + 3LL * L * q),
                                             here + normal(p) + normal(q));
                    }
                    store3<L>(gx + 3LL * L * v, sum);
                }
                if (!m_.S.start)
                    into_sums<L>(m_.geometry, group, chunk, all_of(chunk, L), gx + 3LL * L * first, count, tiles,
                                 own + at_.thread_geometry);
            }
        }
    }

    template <int L>
    void cage_backward(int thread, float* own) {
        float* scratch = own + at_.thread_scratch;
        float* tiles = scratch + GROUP * (Layout::KEPT + 6) * L;
        for (int group = thread; group * TILES < m_.geometry.tiles; group += threads_)
            for (int chunk = 0; chunk < at_.chunks; ++chunk) {
                for (int i = 0; i < GROUP; ++i)
                    store3<L>(scratch + 3LL * L * i,
                              combined<L>(m_.S_transposed, group * GROUP + i, rows<L>(at_.gx, chunk)));
                into_sums<L>(m_.geometry, group, chunk, all_of(chunk, L), scratch, GROUP, tiles,
                             own + at_.thread_geometry);
            }
    }

    // A mode's sum for picture b over a tile's lanes.
    static float lane_sum(const float* sums, const Basis& B, int b, int k) {
        const float* place = sums + ((static_cast<int64_t>(b / BLOCK) * B.modes + k) * BLOCK + b % BLOCK) * LANES;
        float sum = 0;
        for (int i = 0; i < LANES; ++i) sum += place[i];
        return sum;
    }

    // Places of the landmarks, equation 9 and its gradient; few vertices, one thread.
    void landmarks(float* own);
    void finish();

    const Model& m_;
    const Camera& camera_;
    const Batch& batch_;
    float* memory_;
    const int threads_;
    const Layout at_;
    Barrier barrier_;
    const bool gradient_;
    std::vector<Pose> poses_;
};

void Call::landmarks(float* own) {
    if (!m_.points) return;
    const int L = at_.lanes;
    const int64_t chunk_size = 3LL * L * m_.landmarks.tiles * LANES;
    float *rows = memory_ + at_.landmark_x, *gradients = memory_ + at_.landmark_gx;
    const bool wanted = batch_.land_gradient != nullptr;
    std::memset(gradients, 0, sizeof(float) * chunk_size * at_.chunks);
    for (int tile = 0; tile < m_.landmarks.tiles; ++tile)
        expand_rows(m_.landmarks, tile, memory_ + at_.coefficients_geometry, rows, chunk_size);
    const float size = static_cast<float>(batch_.width);
    for (int b = 0; b < batch_.pictures; ++b) {
        const Pose& pose = poses_[b];
        double energy = 0, torque[3] = {}, shift[3] = {};
        for (int i = 0; i < m_.points; ++i) {
            const int64_t place = b / L * chunk_size + 3LL * i * L + b % L;
            const float x[3] = {rows[place], rows[place + L], rows[place + 2 * L]};
            float turned[3], c[3];
            for (int r = 0; r < 3; ++r) {
                turned[r] = pose.R[3 * r] * x[0] + pose.R[3 * r + 1] * x[1] + pose.R[3 * r + 2] * x[2];
                c[r] = turned[r] + pose.t[r];
            }
            const bool far = c[2] > camera_.nearest;
            // A NaN is not nearer than anything: it goes on as it is.
            const float z = c[2] <= camera_.nearest ? camera_.nearest : c[2], scale = camera_.focal / z;
            const float u[2] = {c[0] * scale + camera_.centre_x, c[1] * scale + camera_.centre_y};
            const int64_t point = 1LL * b * m_.points + i;
            for (int k = 0; k < 2; ++k) batch_.places[2 * point + k] = u[k];
            if (!batch_.targets) continue;
            const float weight = batch_.confidence[point];
            const float d[2] = {(u[0] - batch_.targets[2 * point]) / size, (u[1] - batch_.targets[2 * point + 1]) / size};
            energy += weight * (d[0] * d[0] + d[1] * d[1]);
            if (!wanted) continue;
            const float g[2] = {2 * weight * d[0] / size, 2 * weight * d[1] / size};
            const float gc[3] = {g[0] * scale, g[1] * scale, far ? -(g[0] * c[0] + g[1] * c[1]) * scale / z : 0};
            for (int r = 0; r < 3; ++r) {
                const int p = (r + 1) % 3, q = (r + 2) % 3;
                torque[r] += static_cast<double>(turned[p]) * gc[q] - static_cast<double>(turned[q]) * gc[p];
                shift[r] += gc[r];
                gradients[place + r * L] = pose.R[r] * gc[0] + pose.R[3 + r] * gc[1] + pose.R[6 + r] * gc[2];
            }
        }
        if (batch_.land) batch_.land[b] = static_cast<float>(energy);
        if (!wanted) continue;
        float* out = batch_.land_gradient + 1LL * b * batch_.code_size;
        std::fill(out, out + batch_.code_size, 0.0f);
        float* turn = out + m_.shape_expression + m_.reflectance_modes;
        rotation_gradient(pose, torque, turn);
        for (int r = 0; r < 3; ++r) turn[3 + r] = static_cast<float>(shift[r]);
    }
    if (!wanted) return;
    float* sums = memory_ + at_.landmark_sums;
    std::memset(sums, 0, sizeof(float) * at_.blocks * m_.landmarks.modes * BLOCK * LANES);
    by_lanes([&](auto lanes) {
        float* tiles = own + at_.thread_scratch + GROUP * (Layout::KEPT + 6) * L;
        for (int chunk = 0; chunk < at_.chunks; ++chunk)
            for (int group = 0; group * GROUP < m_.points; ++group)
                into_sums<lanes.value>(m_.landmarks, group, chunk, all_of(chunk, L),
                                       gradients + chunk * chunk_size + 3LL * group * GROUP * L,
                                       std::min(GROUP, m_.points - group * GROUP), tiles, sums);
    });
    for (int b = 0; b < batch_.pictures; ++b)
        for (int k = 0; k < m_.landmarks.modes; ++k)
            batch_.land_gradient[1LL * b * batch_.code_size + k] = lane_sum(sums, m_.landmarks, b, k) * m_.geometry.scale[k];
}

void Call::finish() {
    const float nothing = std::numeric_limits<float>::quiet_NaN(), share = 1.0f / static_cast<float>(m_.frontal);
    const float band[9] = {1, SQRT3, SQRT3, SQRT3, SQRT15, SQRT15, 0.5f * SQRT5, SQRT15, 0.5f * SQRT15};
    for (int b = 0; b < batch_.pictures; ++b) {
        double sum[Layout::POSE] = {};
        for (int t = 0; t < threads_; ++t) {
            const float* pose = memory_ + at_.thread + t * at_.thread_size + at_.thread_pose +
                                Layout::POSE * at_.lanes * (b / at_.lanes) + b % at_.lanes;
            for (int k = 0; k < Layout::POSE; ++k) sum[k] += pose[k * at_.lanes];
        }
        const float* code = batch_.codes + 1LL * b * batch_.code_size;
        bool sound = sum[Layout::BAD] == 0;
        for (int k = 0; k < batch_.code_size; ++k) sound = sound && std::isfinite(code[k]);
        batch_.photo[b] = sound ? static_cast<float>(sum[Layout::LOSS]) * share : nothing;
        batch_.front[b] = static_cast<float>(sum[Layout::FRONT]);
        if (!gradient_) continue;
        float* out = batch_.photo_gradient + 1LL * b * batch_.code_size;
        std::fill(out, out + batch_.code_size, 0.0f);
        for (int t = 0; t < threads_; ++t) {
            const float* own = memory_ + at_.thread + t * at_.thread_size;
            for (int k = 0; k < m_.geometry.modes; ++k) out[k] += lane_sum(own + at_.thread_geometry, m_.geometry, b, k);
            for (int k = 0; k < m_.reflectance.modes; ++k)
                out[m_.shape_expression + k] += lane_sum(own + at_.thread_reflectance, m_.reflectance, b, k);
        }
        for (int k = 0; k < m_.geometry.modes; ++k) out[k] *= m_.geometry.scale[k];
        for (int k = 0; k < m_.reflectance.modes; ++k) out[m_.shape_expression + k] *= m_.reflectance.scale[k];
        float* turn = out + m_.shape_expression + m_.reflectance_modes;
        rotation_gradient(poses_[b], sum + Layout::TORQUE, turn);
        for (int r = 0; r < 3; ++r) turn[3 + r] = static_cast<float>(sum[Layout::SHIFT + r]);
        for (int k = 0; k < 27; ++k) turn[6 + k] = static_cast<float>(sum[Layout::LIGHT + k]) * band[k / 3];
        for (int k = 0; k < batch_.code_size; ++k) out[k] = std::isfinite(batch_.photo[b]) ? out[k] * share : nothing;
    }
}

}  // namespace

extern "C" int64_t mofaface_workspace(const Model* m, int32_t pictures, int32_t threads) {
    return Layout(*m, pictures, threads).total * static_cast<int64_t>(sizeof(float));
}

extern "C" void mofaface_terms(const Model* m, const Camera* camera, const Batch* batch, void* workspace, int32_t threads) {
    Call(*m, *camera, *batch, static_cast<float*>(workspace), threads).run();
}
