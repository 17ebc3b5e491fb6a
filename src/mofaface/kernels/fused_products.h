// Products of a basis with coefficients of pictures, and back.

#pragma once
#include "fused.h"
#include "fused_vectors.h"

namespace {

// Sixteen numbers of a basis as float32, from each kind it may be stored in.
inline Tile widen(const float* p) { return load(p); }
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

// out[b][axis · stride + lane] = mean + Σ_k basis[k][axis][lane] c[b][k · BLOCK], for a tile's 16 vertices and N pictures.
template <class Number, int N>
void expand_some(const float* mean, const Number* basis, int K, const float* const* c, float* const* out, int stride) {
    Tile sum[N][3];
    for (int b = 0; b < N; ++b)
        for (int j = 0; j < 3; ++j) sum[b][j] = load(mean + j * LANES);
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
        for (int j = 0; j < 3; ++j) store(out[b] + j * stride, sum[b][j]);
}

// into[b][k · BLOCK] += Σ basis[tile][k][axis] · g[b][tile · tile_stride + axis · stride] over a group of tiles, axes and lanes.
template <class Number, int N>
void reduce_some(const Number* basis, int K, const float* const* g, int stride, int tile_stride, float* const* into) {
    constexpr int AT_ONCE = N > 5 ? 2 : N > 2 ? 4 : 8;  // modes whose sums fit in registers
    int k = 0;
    auto modes = [&](auto count) {
        constexpr int M = decltype(count)::value;
        Tile sum[M * N] = {};
        for (int t = 0; t < TILES; ++t)
            for (int j = 0; j < 3; ++j) {
                Tile v[M];
                for (int m = 0; m < M; ++m)
                    v[m] = widen(basis + ((static_cast<int64_t>(t) * K + k + m) * 3 + j) * LANES);
                for (int b = 0; b < N; ++b) {
                    const Tile w = load(g[b] + t * tile_stride + j * stride);
                    for (int m = 0; m < M; ++m) sum[m * N + b] += v[m] * w;
                }
            }
        float all[M * N];
        totals<M * N>(sum, all);
        for (int m = 0; m < M; ++m)
            for (int b = 0; b < N; ++b) into[b][(k + m) * BLOCK] += all[m * N + b];
    };
    for (; k + AT_ONCE <= K; k += AT_ONCE) modes(std::integral_constant<int, AT_ONCE>());
    for (; k < K; ++k) modes(std::integral_constant<int, 1>());
}

// The templates above by the number of pictures, at most BLOCK.
template <class Number>
void expand(int n, const float* mean, const Number* basis, int K, const float* const* c, float* const* out, int stride) {
    static constexpr decltype(&expand_some<Number, 1>) by_count[] = {
        expand_some<Number, 1>, expand_some<Number, 2>, expand_some<Number, 3>, expand_some<Number, 4>,
        expand_some<Number, 5>, expand_some<Number, 6>, expand_some<Number, 7>, expand_some<Number, 8>};
    if (n) by_count[n - 1](mean, basis, K, c, out, stride);
}
template <class Number>
void reduce(int n, const Number* basis, int K, const float* const* g, int stride, int tile_stride, float* const* into) {
    static constexpr decltype(&reduce_some<Number, 1>) by_count[] = {
        reduce_some<Number, 1>, reduce_some<Number, 2>, reduce_some<Number, 3>, reduce_some<Number, 4>,
        reduce_some<Number, 5>, reduce_some<Number, 6>, reduce_some<Number, 7>, reduce_some<Number, 8>};
    if (n) by_count[n - 1](basis, K, g, stride, tile_stride, into);
}

// A tile, and a group of tiles, of a Basis, whatever its kind.
void expand(const Basis& B, int tile, int n, const float* const* c, float* const* out, int stride) {
    const float* mean = B.mean + static_cast<int64_t>(tile) * 3 * LANES;
    const int64_t place = static_cast<int64_t>(tile) * B.modes * 3 * LANES;
    if (B.kind == 0) expand(n, mean, static_cast<const float*>(B.numbers) + place, B.modes, c, out, stride);
    if (B.kind == 1) expand(n, mean, static_cast<const uint16_t*>(B.numbers) + place, B.modes, c, out, stride);
    if (B.kind == 2) expand(n, mean, static_cast<const int8_t*>(B.numbers) + place, B.modes, c, out, stride);
}
void reduce(const Basis& B, int group, int n, const float* const* g, int stride, int tile_stride, float* const* into) {
    const int64_t place = static_cast<int64_t>(group) * TILES * B.modes * 3 * LANES;
    if (B.kind == 0) reduce(n, static_cast<const float*>(B.numbers) + place, B.modes, g, stride, tile_stride, into);
    if (B.kind == 1) reduce(n, static_cast<const uint16_t*>(B.numbers) + place, B.modes, g, stride, tile_stride, into);
    if (B.kind == 2) reduce(n, static_cast<const int8_t*>(B.numbers) + place, B.modes, g, stride, tile_stride, into);
}

}  // namespace
