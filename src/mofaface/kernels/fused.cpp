// The decoder and its loss with their gradient in one pass over the face model (equations 1 to 10), for the CPU.
//
// Plain C++17 behind a C interface, without Python's or PyTorch's headers. Vectors, tiles and rows are explained in
// fused_vectors.h. Nothing here depends on the order in which threads run: the same input gives the same bits for one
// number of threads.

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "fused.h"
#include "fused_pictures.h"
#include "fused_products.h"
#include "fused_vectors.h"

namespace {

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

constexpr int AHEAD = 32;  // vertices, between a row's being asked for and its use

// Begins to bring a row into the cache, for reading or for writing.
template <int WIDTH, int WRITING = 0>
inline void fetch(const float* row) {
    for (int f = 0; f < WIDTH; f += 16) __builtin_prefetch(row + f, WRITING, 2);
}

constexpr int round_up(int n, int to) { return (n + to - 1) / to * to; }
// Pictures of a row: what a chunk of pictures is padded to.
int pictures_in_a_row(int pictures) {
    if (pictures == 1) return 1;
    if (pictures == 2 && REGISTER >= 32) return 2;
    if (pictures <= 5 && REGISTER >= 64) return 5;
    return pictures <= 8 ? 8 : 16;
}
int width_of(int pictures_in_a_row) {
    switch (pictures_in_a_row) {
        case 1: return WIDTH<1>;
        case 2: return WIDTH<2>;
        case 5: return WIDTH<5>;
        default: return 3 * pictures_in_a_row;
    }
}

// Where everything lies in the workspace; counts are of floats.
struct Layout {
    int pictures, width;  // of a row: pictures, floats
    int chunks, span;     // rows' worth of all pictures, and how many are worked on together
    int blocks, cage, rows;
    int64_t x, gx, gn, cage_x, coefficients_geometry, coefficients_reflectance, seen;
    int64_t thread, geometry_sums, reflectance_sums, landmark_sums, picture_sums, scratch, thread_size, total;

    Layout(const Model& m, int all, int threads) {
        pictures = pictures_in_a_row(all);
        width = width_of(pictures);
        chunks = (all + pictures - 1) / pictures;
        // Reading a cage's short basis for each chunk costs less than rows of more chunks, which no cache holds.
        span = std::min(chunks, m.S.start ? 1 : 2);
        blocks = (chunks * pictures + BLOCK - 1) / BLOCK;
        cage = m.geometry.tiles * LANES;
        rows = round_up(m.rows, GROUP);
        int64_t at = 0;
        auto take = [&](int64_t floats) {
            const int64_t here = at;
            at += (floats + 15) / 16 * 16;
            return here;
        };
        const int64_t row = 1LL * width * span;
        x = take(rows * row);
        gx = take(rows * row);
        gn = take(rows * row);
        cage_x = take(m.S.start ? cage * row : 0);
        seen = take(1LL * span * rows / LANES / sizeof(float) + 1);
        coefficients_geometry = take(1LL * blocks * m.geometry.modes * BLOCK);
        coefficients_reflectance = take(1LL * blocks * m.reflectance.modes * BLOCK);
        thread = at;
        at = 0;
        geometry_sums = take(1LL * blocks * m.geometry.modes * BLOCK);
        reflectance_sums = take(1LL * blocks * m.reflectance.modes * BLOCK);
        landmark_sums = take(1LL * m.landmarks.modes * BLOCK);
        picture_sums = take(1LL * chunks * pictures * SUMS * LANES);
        scratch = take(sizeof(Scratch<16>) / sizeof(float));
        thread_size = at;
        total = thread + thread_size * threads;
    }

    // A group of vertices in a chunk of pictures.
    template <int P>
    struct Scratch {
        float x[TILES][WIDTH<P>][LANES], n[TILES][WIDTH<P>][LANES], r[TILES][WIDTH<P>][LANES];
        float inverse[TILES][P][LANES];
        float rows[GROUP][WIDTH<P>];

        View view(int picture) {
            return {x[0][picture], n[0][picture], r[0][picture], inverse[0][picture], P * LANES, WIDTH<P> * LANES};
        }
    };
    static_assert(sizeof(Scratch<16>) >= TILES * 3 * BLOCK * LANES * sizeof(float), "room for a block of landmarks");
};

// ---- One call --------------------------------------------------------------------------------------------------

class Call {
  public:
    Call(const Model& m, const Camera& camera, const Batch& batch, float* memory, int threads)
        : m_(m), camera_(camera), batch_(batch), memory_(memory), threads_(threads), at_(m, batch.pictures, threads),
          run_(std::clamp(m.frontal / (8 * GROUP * threads), 1, 4)), barrier_(threads), gradient_(batch.photo_gradient != nullptr) {
        for (int b = 0; b < batch.pictures; ++b) pictures_.push_back(picture_of(m, camera, batch, b));
        scale(m.geometry, 0, memory_ + at_.coefficients_geometry);
        scale(m.reflectance, m.shape_expression, memory_ + at_.coefficients_reflectance);
    }

    void run() {
        std::vector<std::thread> others;
        for (int t = 1; t < threads_; ++t) others.emplace_back([this, t] { by_pictures(t); });
        by_pictures(0);
        for (auto& t : others) t.join();
    }

  private:
    // Coefficients [block][mode][BLOCK], times what a stored number is worth.
    void scale(const Basis& B, int first, float* out) const {
        std::memset(out, 0, sizeof(float) * at_.blocks * B.modes * BLOCK);
        for (int b = 0; b < batch_.pictures; ++b)
            for (int k = 0; k < B.modes; ++k)
                out[place_of(B, b) + k * BLOCK] = batch_.codes[1LL * b * batch_.code_size + first + k] * B.scale[k];
    }
    static int64_t place_of(const Basis& B, int b) { return static_cast<int64_t>(b / BLOCK) * B.modes * BLOCK + b % BLOCK; }

    // Chunks of pictures that are worked on together.
    struct Span {
        int first, last;
    };

    void by_pictures(int thread) {
        switch (at_.pictures) {
            case 1: return work<1>(thread);
            case 2: return work<2>(thread);
            case 5: return work<5>(thread);
            case 8: return work<8>(thread);
            default: return work<16>(thread);
        }
    }

    template <int P>
    void work(int thread) {
        float* own = memory_ + at_.thread + thread * at_.thread_size;
        auto& scratch = *reinterpret_cast<Layout::Scratch<P>*>(own + at_.scratch);
        std::memset(own, 0, sizeof(float) * at_.scratch);
        if (thread == 0) clear_rest<P>();
        landmarks(thread, own, own + at_.scratch);
        // What is never written should be a number.
        std::memset(&scratch, 0, sizeof scratch);
        for (int first = 0; first < at_.chunks; first += at_.span) {
            const Span span = {first, std::min(at_.chunks, first + at_.span)};
            geometry<P>(thread, span, scratch);
            barrier_.wait();
            if (m_.S.start) {
                subdivide<P>(thread, span);
                barrier_.wait();
            }
            photometric<P>(thread, span, own, scratch);
            if (!gradient_) {
                if (!m_.S.start) barrier_.wait();
                continue;
            }
            barrier_.wait();
            normals_backward<P>(thread, span, own, scratch);
            barrier_.wait();
            if (m_.S.start) cage_backward<P>(thread, span, own, scratch);
        }
        barrier_.wait();
        for (int b = thread; b < batch_.pictures; b += threads_) finish(b);
    }

    // A thread's share of the groups of vertices: every so many-th run of them, so that most neighbours are its own.
    int first_of(int thread) const { return thread * run_; }
    int after(int group) const { return (group + 1) % run_ ? group + 1 : group + 1 + (threads_ - 1) * run_; }

    // Pictures of a chunk.
    int count_of(int chunk) const { return std::min(at_.pictures, batch_.pictures - chunk * at_.pictures); }
    float* rows(int64_t place, int chunk) const { return memory_ + place + 1LL * at_.width * at_.rows * (chunk % at_.span); }
    int64_t cage_place(int chunk) const { return 1LL * at_.width * at_.cage * (chunk % at_.span); }
    // Whether any picture of a chunk sees any vertex of a tile.
    uint8_t* seen(int chunk) const {
        return reinterpret_cast<uint8_t*>(memory_ + at_.seen) + 1LL * (chunk % at_.span) * (at_.rows / LANES);
    }

    // Rows that no frontal vertex writes.
    template <int P>
    void clear_rest() const {
        constexpr int64_t size = WIDTH<P> * sizeof(float);
        for (int chunk = 0; chunk < at_.span; ++chunk) {
            std::memset(rows(at_.x, chunk) + 1LL * m_.rows * WIDTH<P>, 0, size * (at_.rows - m_.rows));
            for (int64_t place : {at_.gx, at_.gn})
                std::memset(rows(place, chunk) + 1LL * m_.frontal * WIDTH<P>, 0, size * (at_.rows - m_.frontal));
            std::memset(seen(chunk), 0, at_.rows / LANES);
        }
    }

    // Rows of the cage, or of the vertices themselves, of all pictures: equation 2.
    template <int P>
    void geometry(int thread, Span span, Layout::Scratch<P>& scratch) const {
        float(*tiles)[LANES] = scratch.x[0];
        for (int tile = thread; tile < m_.geometry.tiles; tile += threads_)
            for (int chunk = span.first; chunk < span.last; ++chunk) {
                const int count = count_of(chunk);
                expand_tile<P>(m_.geometry, tile, chunk, at_.coefficients_geometry, (1u << count) - 1, tiles);
                // Lanes without a picture repeat the last one: what memory held before must not become a slow number.
                for (int axis = 0; axis < 3; ++axis)
                    for (int i = count; i < P; ++i) store(tiles[axis * P + i], load(tiles[axis * P + count - 1]));
                float* out = m_.S.start ? memory_ + at_.cage_x + cage_place(chunk) : rows(at_.x, chunk);
                to_rows<WIDTH<P>>(tiles[0], LANES, out + 1LL * tile * LANES * WIDTH<P>);
            }
    }

    // A tile of a basis in the wanted pictures (bits) of a chunk.
    template <int P>
    void expand_tile(const Basis& B, int tile, int chunk, int64_t coefficients, uint32_t wanted, float (*tiles)[LANES]) const {
        const float* c[BLOCK];
        float* out[BLOCK];
        int n = 0;
        for (int i = 0; i < P; ++i) {
            if (wanted >> i & 1) {
                c[n] = memory_ + coefficients + place_of(B, chunk * P + i);
                out[n++] = tiles[i];
            }
            if (n == BLOCK || i + 1 == P) {
                expand(B, tile, n, c, out, P * LANES);
                n = 0;
            }
        }
    }

    // Pull a group's gradients in the wanted pictures (bits) back to the modes of a basis.
    template <int P>
    void reduce_group(const Basis& B, int group, int chunk, uint32_t wanted, const float (*tiles)[WIDTH<P>][LANES],
                      float* sums) const {
        const float* g[BLOCK];
        float* into[BLOCK];
        int n = 0;
        for (int i = 0; i < P; ++i) {
            if (wanted >> i & 1) {
                g[n] = tiles[0][i];
                into[n++] = sums + place_of(B, chunk * P + i);
            }
            if (n == BLOCK || i + 1 == P) {
                reduce(B, group, n, g, P * LANES, WIDTH<P> * LANES, into);
                n = 0;
            }
        }
    }

    template <int P>
    void subdivide(int thread, Span span) const {
        for (int chunk = span.first; chunk < span.last; ++chunk) {
            const float* cage = memory_ + at_.cage_x + cage_place(chunk);
            float* x = rows(at_.x, chunk);
            for (int group = first_of(thread); group * GROUP < m_.rows; group = after(group))
                for (int v = group * GROUP; v < std::min((group + 1) * GROUP, m_.rows); ++v)
                    store_row<P>(x + 1LL * WIDTH<P> * v, combined<P>(m_.S, v, cage));
        }
    }

    template <int P>
    static Row<P> combined(const Rows& S, int row, const float* from) {
        // Several sums, because each addition waits for the one before.
        constexpr int AT_ONCE = Row<P>::TOGETHER ? 4 : 2;
        Row<P> sum[AT_ONCE] = {};
        auto add = [&](int e, Row<P>& to) { to = to + S.value[e] * load_row<P>(from + 1LL * WIDTH<P> * S.column[e]); };
        int e = S.start[row];
        for (const int end = S.start[row + 1] - AT_ONCE; e <= end; e += AT_ONCE)
            for (int i = 0; i < AT_ONCE; ++i) add(e + i, sum[i]);
        for (; e < S.start[row + 1]; ++e) add(e, sum[0]);
        for (int i = 1; i < AT_ONCE; ++i) sum[0] = sum[0] + sum[i];
        return sum[0];
    }

    // Equations 4 to 8 at the frontal vertices, group by group.
    template <int P>
    void photometric(int thread, Span span, float* own, Layout::Scratch<P>& scratch) const {
        const int64_t number = m_.reflectance.kind == 0 ? 4 : m_.reflectance.kind == 1 ? 2 : 1;
        const int64_t bytes = number * GROUP * 3 * m_.reflectance.modes;
        for (int group = first_of(thread); group * GROUP < m_.frontal; group = after(group)) {
            // The basis of the thread's next group is fetched while this one's normals are computed.
            const char* next = static_cast<const char*>(m_.reflectance.numbers) + after(group) * bytes;
            int lines = after(group) * GROUP < m_.frontal ? static_cast<int>(bytes / (64 * GROUP)) : 0;
            for (int chunk = span.first; chunk < span.last; ++chunk, lines = 0)
                compare_group<P>(group, chunk, own, scratch, next, lines);
        }
    }

    template <int P>
    void compare_group(int group, int chunk, float* own, Layout::Scratch<P>& scratch, const char* next, int lines) const {
        const int pictures = count_of(chunk), count = std::min(GROUP, m_.frontal - group * GROUP);
        float* sums = own + at_.picture_sums + 1LL * chunk * P * SUMS * LANES;
        uint32_t by_tile[TILES] = {}, by_picture[P] = {}, all = 0;  // who sees what, as bits
        for (int t = 0; t * LANES < count; ++t) {
            by_tile[t] = look<P>(group, chunk, t, scratch, next + t * LANES * lines * 64, lines, sums);
            for (int i = 0; i < pictures; ++i) by_picture[i] |= (by_tile[t] >> i & 1) << t;
            all |= by_tile[t];
            if (by_tile[t])
                expand_tile<P>(m_.reflectance, group * TILES + t, chunk, at_.coefficients_reflectance, by_tile[t], scratch.r[t]);
        }
        for (int i = 0; i < pictures; ++i)
            if (by_picture[i] || gradient_)
                compare(pictures_[chunk * P + i], camera_, batch_, by_picture[i], scratch.view(i), gradient_,
                        sums + i * SUMS * LANES);
        if (!gradient_) return;
        if (all) reduce_group<P>(m_.reflectance, group, chunk, all, scratch.r, own + at_.reflectance_sums);
        for (int t = 0; t * LANES < count; ++t) keep_gradients<P>(group, chunk, t, by_tile[t] != 0, scratch);
    }

    // Camera places and normals of a tile's vertices; returns the pictures (bits) that see any.
    template <int P>
    uint32_t look(int group, int chunk, int t, Layout::Scratch<P>& scratch, const char* next, int lines, float* sums) const {
        constexpr int W = WIDTH<P>;
        const int first = group * GROUP + t * LANES, count = std::min(LANES, m_.frontal - first);
        const float* x = rows(at_.x, chunk);
        area_normals<P>(first, count, x, scratch.rows[0], next, lines);
        to_tiles<W>(x + 1LL * W * first, scratch.x[t][0]);
        to_tiles<W>(scratch.rows[0], scratch.n[t][0]);
        if (gradient_)
            for (int v = first; v < first + count; ++v)
                for (int64_t place : {at_.gx, at_.gn}) fetch<W, 1>(rows(place, chunk) + 1LL * W * v);
        // Many pictures do not fit in the caches: their pixels are fetched while the reflectance is computed.
        constexpr bool FETCH = P > 8;
        uint32_t seen = 0;
        for (int i = 0; i < count_of(chunk); ++i) {
            const Picture& picture = pictures_[chunk * P + i];
            if (face<FETCH>(picture, camera_, batch_, scratch.view(i), t, count, sums + i * SUMS * LANES)) seen |= 1u << i;
        }
        return seen;
    }

    // A tile's gradients by places and normals become rows.
    template <int P>
    void keep_gradients(int group, int chunk, int t, bool any_seen, const Layout::Scratch<P>& scratch) const {
        constexpr int W = WIDTH<P>;
        const int first = group * GROUP + t * LANES, count = std::min(LANES, m_.frontal - first);
        seen(chunk)[first / LANES] = any_seen;
        float *gx = rows(at_.gx, chunk) + 1LL * W * first, *gn = rows(at_.gn, chunk) + 1LL * W * first;
        if (any_seen) {
            to_rows<W>(scratch.x[t][0], count, gx);
            to_rows<W>(scratch.n[t][0], count, gn);
        } else {
            std::memset(gx, 0, sizeof(float) * W * count);
            std::memset(gn, 0, sizeof(float) * W * count);
        }
    }

    // Σ over the one-ring of a vertex' triangles, each as long as twice its area. A fan of triangles is read corner by corner.
    template <int P>
    void area_normals(int first, int count, const float* x, float* out, const char* next, int lines) const {
        for (int i = 0; i < count; ++i, out += WIDTH<P>) {
            for (int line = 0; line < lines; ++line) __builtin_prefetch(next + (i * lines + line) * 64, 0, 2);
            fetch<WIDTH<P>>(x + 1LL * WIDTH<P> * (first + i + AHEAD));
            const Row<P> here = load_row<P>(x + 1LL * WIDTH<P> * (first + i));
            Row<P> last = {}, shifted_last = {};
            Crosses<P> normal;
            for (int e = m_.ring.start[first + i]; e < m_.ring.start[first + i + 1]; ++e) {
                const int corner = m_.ring.column[e];
                const Row<P> edge = load_row<P>(x + 1LL * WIDTH<P> * (corner < 0 ? ~corner : corner)) - here;
                const Row<P> shifted_edge = shifted<P>(edge);
                if (corner >= 0) normal.add(last, shifted_last, edge, shifted_edge);
                last = edge;
                shifted_last = shifted_edge;
            }
            store_row<P>(out, normal.value());
        }
        std::memset(out, 0, sizeof(float) * WIDTH<P> * (LANES - count));
    }

    // A corner v of a triangle (v, p, q) turns its area vector (p − v) × (q − v): dE/dv = Σ (p − q) × (g_v + g_p + g_q).
    template <int P>
    void normals_backward(int thread, Span span, float* own, Layout::Scratch<P>& scratch) const {
        for (int group = first_of(thread); group * GROUP < m_.rows; group = after(group))
            for (int chunk = span.first; chunk < span.last; ++chunk) {
                bool touched = false;
                for (int v = group * GROUP; v < std::min((group + 1) * GROUP, m_.rows); ++v)
                    if (reached(v, chunk)) {
                        touched = true;
                        corner_backward<P>(v, chunk);
                    }
                if (touched && !m_.S.start) {
                    const float* gx = rows(at_.gx, chunk) + 1LL * WIDTH<P> * group * GROUP;
                    reduce_rows<P>(group, chunk, gx, own, scratch);
                }
            }
    }

    // Whether a picture of the chunk sees a vertex' tile or that of one of its neighbours.
    bool reached(int v, int chunk) const {
        const uint8_t* tiles = seen(chunk);
        bool found = tiles[v / LANES];
        for (int e = m_.ring.start[v]; e < m_.ring.start[v + 1] && !found; ++e) {
            const int corner = m_.ring.column[e];
            found = tiles[(corner < 0 ? ~corner : corner) / LANES];
        }
        return found;
    }

    // Adds to the gradient by one vertex' place what its neighbours' normals and its own add.
    template <int P>
    void corner_backward(int v, int chunk) const {
        const float *x = rows(at_.x, chunk), *gn = rows(at_.gn, chunk);
        float* gx = rows(at_.gx, chunk) + 1LL * WIDTH<P> * v;
        for (const float* ahead : {x + 1LL * WIDTH<P> * v, gn + 1LL * WIDTH<P> * v, static_cast<const float*>(gx)})
            fetch<WIDTH<P>>(ahead + AHEAD * WIDTH<P>);
        const Row<P> here = load_row<P>(gn + 1LL * WIDTH<P> * v);
        Row<P> last_x = {}, last_g = {};
        Crosses<P> sum;
        for (int e = m_.ring.start[v]; e < m_.ring.start[v + 1]; ++e) {
            const int corner = m_.ring.column[e];
            const int64_t place = 1LL * WIDTH<P> * (corner < 0 ? ~corner : corner);
            const Row<P> next_x = load_row<P>(x + place), next_g = load_row<P>(gn + place);
            if (corner >= 0) {
                const Row<P> along = last_x - next_x, g = last_g + next_g + here;
                sum.add(along, shifted<P>(along), g, shifted<P>(g));
            }
            last_x = next_x;
            last_g = next_g;
        }
        store_row<P>(gx, load_row<P>(gx) + sum.value());
    }

    // A group's gradients by places, back to the modes.
    template <int P>
    void reduce_rows(int group, int chunk, const float* gx, float* own, Layout::Scratch<P>& scratch) const {
        for (int t = 0; t < TILES; ++t) to_tiles<WIDTH<P>>(gx + t * LANES * WIDTH<P>, scratch.x[t][0]);
        reduce_group<P>(m_.geometry, group, chunk, (1u << count_of(chunk)) - 1, scratch.x, own + at_.geometry_sums);
    }

    // The gradients by the cage's places, back to the modes.
    template <int P>
    void cage_backward(int thread, Span span, float* own, Layout::Scratch<P>& scratch) const {
        for (int group = thread; group * TILES < m_.geometry.tiles; group += threads_)
            for (int chunk = span.first; chunk < span.last; ++chunk) {
                for (int i = 0; i < GROUP; ++i)
                    store_row<P>(scratch.rows[i], combined<P>(m_.S_transposed, group * GROUP + i, rows(at_.gx, chunk)));
                reduce_rows<P>(group, chunk, scratch.rows[0], own, scratch);
            }
    }

    void landmarks(int thread, float* own, float* tiles) const;
    void finish(int b) const;

    const Model& m_;
    const Camera& camera_;
    const Batch& batch_;
    float* memory_;
    const int threads_;
    const Layout at_;
    const int run_;
    Barrier barrier_;
    const bool gradient_;
    std::vector<Picture> pictures_;
};

// What a picture's landmarks sum up to.
struct LandmarkSums {
    double energy = 0, torque[3] = {}, shift[3] = {};
};

// Equation 9 for one landmark of picture b at `x` (its axes `stride` floats apart) and its gradient in place of the place.
void compare_landmark(const Model& m, const Camera& camera, const Batch& batch, const Pose& pose, int b, int i, float* x,
                      int stride, LandmarkSums& sums) {
    float turned[3], c[3];
    for (int r = 0; r < 3; ++r) {
        turned[r] = pose.R[3 * r] * x[0] + pose.R[3 * r + 1] * x[stride] + pose.R[3 * r + 2] * x[2 * stride];
        c[r] = turned[r] + pose.t[r];
    }
    const bool far = c[2] > camera.nearest;
    // A NaN is not nearer than anything: it goes on as it is.
    const float z = c[2] <= camera.nearest ? camera.nearest : c[2], scale = camera.focal / z;
    const float u[2] = {c[0] * scale + camera.centre_x, c[1] * scale + camera.centre_y};
    const int64_t point = 1LL * b * m.points + i;
    for (int k = 0; k < 2; ++k) batch.places[2 * point + k] = u[k];
    if (!batch.targets) return;
    const float weight = batch.confidence[point], size = static_cast<float>(batch.width);
    const float d[2] = {(u[0] - batch.targets[2 * point]) / size, (u[1] - batch.targets[2 * point + 1]) / size};
    sums.energy += weight * (d[0] * d[0] + d[1] * d[1]);
    const float g[2] = {2 * weight * d[0] / size, 2 * weight * d[1] / size};
    const float gc[3] = {g[0] * scale, g[1] * scale, far ? -(g[0] * c[0] + g[1] * c[1]) * scale / z : 0};
    for (int r = 0; r < 3; ++r) {
        const int p = (r + 1) % 3, q = (r + 2) % 3;
        sums.torque[r] += static_cast<double>(turned[p]) * gc[q] - static_cast<double>(turned[q]) * gc[p];
        sums.shift[r] += gc[r];
        x[r * stride] = pose.R[r] * gc[0] + pose.R[3 + r] * gc[1] + pose.R[6 + r] * gc[2];
    }
}

// Places of the landmarks, equation 9 and its gradient, for every so many-th block of pictures.
void Call::landmarks(int thread, float* own, float* tiles) const {
    constexpr int STRIDE = BLOCK * LANES, TILE = 3 * STRIDE;
    const bool wanted = batch_.land_gradient != nullptr;
    float* sums = own + at_.landmark_sums;
    for (int block = threads_ - 1 - thread; block * BLOCK < batch_.pictures; block += threads_) {
        const int first = block * BLOCK, pictures = std::min(BLOCK, batch_.pictures - first);
        const float *c[BLOCK], *g[BLOCK];
        float *out[BLOCK], *into[BLOCK];
        LandmarkSums found[BLOCK];
        std::memset(sums, 0, sizeof(float) * m_.landmarks.modes * BLOCK);
        for (int start = 0; start < m_.points; start += GROUP) {
            const int count = std::min(GROUP, m_.points - start);
            for (int t = 0; t < TILES; ++t) {
                for (int j = 0; j < pictures; ++j) {
                    c[j] = memory_ + at_.coefficients_geometry + place_of(m_.landmarks, first + j);
                    out[j] = tiles + t * TILE + j * LANES;
                }
                expand(m_.landmarks, start / LANES + t, pictures, c, out, STRIDE);
            }
            for (int j = 0; j < pictures; ++j) {
                for (int i = 0; i < count; ++i)
                    compare_landmark(m_, camera_, batch_, pictures_[first + j].pose, first + j, start + i,
                                     tiles + i / LANES * TILE + j * LANES + i % LANES, STRIDE, found[j]);
                g[j] = tiles + j * LANES;
                into[j] = sums + j;
            }
            if (wanted) reduce(m_.landmarks, start / GROUP, pictures, g, STRIDE, TILE, into);
        }
        for (int j = 0; j < pictures; ++j) {
            if (batch_.land) batch_.land[first + j] = static_cast<float>(found[j].energy);
            if (!wanted) continue;
            float* gradient = batch_.land_gradient + 1LL * (first + j) * batch_.code_size;
            std::fill(gradient, gradient + batch_.code_size, 0.0f);
            for (int k = 0; k < m_.landmarks.modes; ++k)
                gradient[k] = sums[k * BLOCK + j] * m_.geometry.scale[k];
            float* turn = gradient + m_.shape_expression + m_.reflectance_modes;
            rotation_gradient(pictures_[first + j].pose, found[j].torque, turn);
            for (int r = 0; r < 3; ++r) turn[3 + r] = static_cast<float>(found[j].shift[r]);
        }
    }
}

// All threads' sums for one picture become its loss and its gradient.
void Call::finish(int b) const {
    const float nothing = std::numeric_limits<float>::quiet_NaN(), share = 1.0f / static_cast<float>(m_.frontal);
    auto over_threads = [&](int64_t place) {
        Tile sum = {};
        for (int t = 0; t < threads_; ++t) sum += load(memory_ + at_.thread + t * at_.thread_size + place);
        return total(sum);
    };
    const int64_t sums = at_.picture_sums + 1LL * b * SUMS * LANES;
    const float* code = batch_.codes + 1LL * b * batch_.code_size;
    bool sound = over_threads(sums + BAD * LANES) == 0;
    for (int k = 0; k < batch_.code_size; ++k) sound = sound && std::isfinite(code[k]);
    const float loss = over_threads(sums + LOSS * LANES) * share;
    batch_.photo[b] = sound ? loss : nothing;
    batch_.front[b] = over_threads(sums + FRONT * LANES);
    if (!gradient_) return;
    float* out = batch_.photo_gradient + 1LL * b * batch_.code_size;
    std::fill(out, out + batch_.code_size, 0.0f);
    auto modes = [&](const Basis& B, int64_t place, float* to) {
        for (int k = 0; k < B.modes; ++k) {
            float sum = 0;
            for (int t = 0; t < threads_; ++t)
                sum += memory_[at_.thread + t * at_.thread_size + place + place_of(B, b) + k * BLOCK];
            to[k] = sum * B.scale[k];
        }
    };
    modes(m_.geometry, at_.geometry_sums, out);
    modes(m_.reflectance, at_.reflectance_sums, out + m_.shape_expression);
    float* turn = out + m_.shape_expression + m_.reflectance_modes;
    double torque[3];
    for (int r = 0; r < 3; ++r) {
        torque[r] = over_threads(sums + (TORQUE + r) * LANES);
        turn[3 + r] = over_threads(sums + (SHIFT + r) * LANES);
    }
    rotation_gradient(pictures_[b].pose, torque, turn);
    const float band[9] = {1, SQRT3, SQRT3, SQRT3, SQRT15, SQRT15, 0.5f * SQRT5, SQRT15, 0.5f * SQRT15};
    for (int k = 0; k < 27; ++k) turn[6 + k] = over_threads(sums + (LIGHT + k) * LANES) * band[k / 3];
    for (int k = 0; k < batch_.code_size; ++k) out[k] = std::isfinite(batch_.photo[b]) ? out[k] * share : nothing;
}

}  // namespace

extern "C" int64_t mofaface_workspace(const Model* m, int32_t pictures, int32_t threads) {
    return Layout(*m, pictures, threads).total * static_cast<int64_t>(sizeof(float));
}

extern "C" void mofaface_terms(const Model* m, const Camera* camera, const Batch* batch, void* workspace, int32_t threads) {
    Call(*m, *camera, *batch, static_cast<float*>(workspace), threads).run();
}
