// Vectors as GCC and Clang know them: the compiler turns them into AVX-512, AVX2 or NEON. A vector's lanes are used in two ways:
//   tiles: 16 vertices of one picture, for arithmetic on one vertex after the other;
//   rows:  one vertex in P pictures, for what reads a vertex' neighbours: a gather is then a plain load.

#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

// Bytes of a register.
#if defined(__AVX512F__)
constexpr int REGISTER = 64;
#elif defined(__AVX2__)
constexpr int REGISTER = 32;
#else
constexpr int REGISTER = 16;
#endif

constexpr int LANES = 16;             // vertices in a tile
constexpr int TILES = 4;              // tiles in a group
constexpr int GROUP = LANES * TILES;  // vertices that are worked on together
constexpr int BLOCK = 8;              // pictures whose sums fit in registers

template <int L>
struct VectorOf {
    typedef float type __attribute__((vector_size(L * 4)));
    typedef int32_t mask __attribute__((vector_size(L * 4)));
};
template <int L>
using Vec = typename VectorOf<L>::type;
using Quad = Vec<4>;
using Tile = Vec<LANES>;
using Mask = VectorOf<LANES>::mask;

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
inline Tile load(const float* p) { return load<LANES>(p); }
inline void store(float* p, Tile v) { store<LANES>(p, v); }
inline void add(float* p, Tile v) { store(p, load(p) + v); }
inline Tile every(float x) { return Tile{} + x; }
inline Tile root(Tile v) {
    for (int i = 0; i < LANES; ++i) v[i] = std::sqrt(v[i]);
    return v;
}
inline bool any(Mask m) {
#ifdef __AVX512F__
    return _mm512_test_epi32_mask((__m512i)m, (__m512i)m) != 0;
#else
    int32_t s = 0;
    for (int i = 0; i < LANES; ++i) s |= m[i];
    return s != 0;
#endif
}
inline Mask counting() { return Mask{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }
inline float total(Tile v) {
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) v[i] += v[i + half];
    return v[0];
}

// The lanes I of two vectors laid one behind the other.
template <int... I, class V>
inline auto pick(V a, V b) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(a, b, I...);
#else
    typedef int32_t Places __attribute__((vector_size(sizeof(V))));
    return __builtin_shuffle(a, b, Places{I...});
#endif
}

// Four vectors of four as one tile.
inline Tile joined(Quad a, Quad b, Quad c, Quad d) {
#if defined(__clang__) || __GNUC__ >= 12
    return pick<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>(pick<0, 1, 2, 3, 4, 5, 6, 7>(a, b),
                                                                      pick<0, 1, 2, 3, 4, 5, 6, 7>(c, d));
#else
    const Quad all[4] = {a, b, c, d};
    Tile tile;
    std::memcpy(&tile, all, sizeof tile);
    return tile;
#endif
}

// Four rows of four floats become four columns.
inline void transpose(Quad& a, Quad& b, Quad& c, Quad& d) {
    const Quad ab = pick<0, 4, 1, 5>(a, b), cd = pick<0, 4, 1, 5>(c, d);
    const Quad AB = pick<2, 6, 3, 7>(a, b), CD = pick<2, 6, 3, 7>(c, d);
    a = pick<0, 1, 4, 5>(ab, cd);
    b = pick<2, 3, 6, 7>(ab, cd);
    c = pick<0, 1, 4, 5>(AB, CD);
    d = pick<2, 3, 6, 7>(AB, CD);
}

// Of the lanes of a and b every second block of WIDTH, those of a first (in every four lanes where blocks are short).
template <int WIDTH>
constexpr int block_of(int lane) {
    return WIDTH >= 4 ? lane / WIDTH * 2 * WIDTH + lane % WIDTH : lane / 4 * 4 + lane % 4 / 2 * LANES + lane % 2 * (3 - WIDTH);
}
// Each block plus the one after it: half as many lanes for each of two tiles.
template <int WIDTH, int... I>
inline Tile folded(Tile a, Tile b, std::integer_sequence<int, I...>) {
    return pick<block_of<WIDTH>(I)...>(a, b) + pick<block_of<WIDTH>(I) + WIDTH...>(a, b);
}
template <int WIDTH>
inline Tile folded(Tile a, Tile b) {
    return folded<WIDTH>(a, b, std::make_integer_sequence<int, LANES>());
}

// out[i] = Σ of the lanes of tile i.
template <int N>
inline void totals(const Tile* tiles, float* out) {
    int i = 0;
    if constexpr (REGISTER == sizeof(Tile))
        for (; i + 16 <= N; i += 16) {
            Tile level[8];
            for (int j = 0; j < 8; ++j) level[j] = folded<8>(tiles[i + 2 * j], tiles[i + 2 * j + 1]);
            for (int j = 0; j < 4; ++j) level[j] = folded<4>(level[2 * j], level[2 * j + 1]);
            for (int j = 0; j < 2; ++j) level[j] = folded<2>(level[2 * j], level[2 * j + 1]);
            const Tile sum = folded<1>(level[0], level[1]);
            for (int j = 0; j < 16; ++j) out[i + j] = sum[j % 4 * 4 + j / 4];
        }
    for (; i + 4 <= N; i += 4) {
        Quad quads[4];
        for (int j = 0; j < 4; ++j) {
            float lanes[LANES];
            store(lanes, tiles[i + j]);
            quads[j] = (load<4>(lanes) + load<4>(lanes + 4)) + (load<4>(lanes + 8) + load<4>(lanes + 12));
        }
        transpose(quads[0], quads[1], quads[2], quads[3]);
        store<4>(out + i, (quads[0] + quads[1]) + (quads[2] + quads[3]));
    }
    for (; i < N; ++i) out[i] = total(tiles[i]);
}

// ---- Three tiles: a vector of space at each of 16 vertices ------------------------------------------------------

struct Three {
    Tile x, y, z;
};
// The axes lie `stride` floats apart.
inline Three load3(const float* p, int stride) { return {load(p), load(p + stride), load(p + 2 * stride)}; }
inline void store3(float* p, int stride, const Three& v) {
    store(p, v.x);
    store(p + stride, v.y);
    store(p + 2 * stride, v.z);
}
inline Three operator+(const Three& a, const Three& b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Three operator-(const Three& a, const Three& b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline Three operator*(const Three& a, Tile s) { return {a.x * s, a.y * s, a.z * s}; }
inline Three cross(const Three& a, const Three& b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
inline Tile dot(const Three& a, const Three& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline Three turned(const float* R, const Three& v) {
    return {R[0] * v.x + R[1] * v.y + R[2] * v.z, R[3] * v.x + R[4] * v.y + R[5] * v.z, R[6] * v.x + R[7] * v.y + R[8] * v.z};
}
inline Three turned_back(const float* R, const Three& v) {
    return {R[0] * v.x + R[3] * v.y + R[6] * v.z, R[1] * v.x + R[4] * v.y + R[7] * v.z, R[2] * v.x + R[5] * v.y + R[8] * v.z};
}

// ---- Rows: a vector of space at one vertex in P pictures --------------------------------------------------------

// Floats of a row: the axes one after the other, P floats each. 1, 2 and 5 pictures share a register with all three axes and
// are padded to a power of two.
template <int P>
constexpr int WIDTH = P == 1 ? 4 : P == 2 ? 8 : P == 5 ? 16 : 3 * P;

template <int P>
struct Row {
    static constexpr bool TOGETHER = WIDTH<P> != 3 * P;
    static constexpr int PARTS = TOGETHER ? 1 : 3, LENGTH = TOGETHER ? WIDTH<P> : P;
    Vec<LENGTH> part[PARTS];
};
template <int P>
inline Row<P> load_row(const float* p) {
    Row<P> row;
    for (int j = 0; j < Row<P>::PARTS; ++j) row.part[j] = load<Row<P>::LENGTH>(p + j * P);
    return row;
}
template <int P>
inline void store_row(float* p, const Row<P>& row) {
    for (int j = 0; j < Row<P>::PARTS; ++j) store<Row<P>::LENGTH>(p + j * P, row.part[j]);
}
template <int P>
inline Row<P> operator+(Row<P> a, const Row<P>& b) {
    for (int j = 0; j < Row<P>::PARTS; ++j) a.part[j] += b.part[j];
    return a;
}
template <int P>
inline Row<P> operator-(Row<P> a, const Row<P>& b) {
    for (int j = 0; j < Row<P>::PARTS; ++j) a.part[j] -= b.part[j];
    return a;
}
template <int P>
inline Row<P> operator*(Row<P> a, const Row<P>& b) {
    for (int j = 0; j < Row<P>::PARTS; ++j) a.part[j] *= b.part[j];
    return a;
}
template <int P>
inline Row<P> operator*(float s, Row<P> a) {
    for (int j = 0; j < Row<P>::PARTS; ++j) a.part[j] *= s;
    return a;
}

// y, z, x in place of x, y, z.
template <int P, int... I>
inline Row<P> shifted_together(const Row<P>& row, std::integer_sequence<int, I...>) {
    return {{pick<(I < 3 * P ? (I + P) % (3 * P) : I)...>(row.part[0], row.part[0])}};
}
template <int P>
inline Row<P> shifted(const Row<P>& row) {
    if constexpr (Row<P>::TOGETHER)
        return shifted_together<P>(row, std::make_integer_sequence<int, WIDTH<P>>());
    else
        return {{row.part[1], row.part[2], row.part[0]}};
}

// A sum of cross products, `shifted` only once: a × b = shifted(a · shifted(b) − shifted(a) · b).
template <int P>
struct Crosses {
    Row<P> sum = {};
    void add(const Row<P>& a, const Row<P>& shifted_a, const Row<P>& b, const Row<P>& shifted_b) {
        sum = sum + a * shifted_b - shifted_a * b;
    }
    Row<P> value() const { return shifted<P>(sum); }
};

// ---- Between rows and tiles -------------------------------------------------------------------------------------

// Sixteen rows as tiles: tiles[float of the row][vertex].
template <int WIDTH>
inline void to_tiles(const float* rows, float* tiles) {
    for (int f = 0; f < WIDTH; f += 4)
        for (int v = 0; v < LANES; v += 4) {
            const float* from = rows + v * WIDTH + f;
            Quad a = load<4>(from), b = load<4>(from + WIDTH), c = load<4>(from + 2 * WIDTH), d = load<4>(from + 3 * WIDTH);
            transpose(a, b, c, d);
            float* to = tiles + f * LANES + v;
            store<4>(to, a), store<4>(to + LANES, b), store<4>(to + 2 * LANES, c), store<4>(to + 3 * LANES, d);
        }
}

// The reverse, for the first `count` rows.
template <int WIDTH>
inline void to_rows(const float* tiles, int count, float* rows) {
    for (int f = 0; f < WIDTH; f += 4)
        for (int v = 0; v < count; v += 4) {
            const float* from = tiles + f * LANES + v;
            Quad a = load<4>(from), b = load<4>(from + LANES), c = load<4>(from + 2 * LANES), d = load<4>(from + 3 * LANES);
            transpose(a, b, c, d);
            float* to = rows + v * WIDTH + f;
            store<4>(to, a);
            if (v + 1 < count) store<4>(to + WIDTH, b);
            if (v + 2 < count) store<4>(to + 2 * WIDTH, c);
            if (v + 3 < count) store<4>(to + 3 * WIDTH, d);
        }
}

}  // namespace
