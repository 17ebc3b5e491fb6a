// AdaDelta (Zeiler 2012) in one pass over memory: every number of the state is read once and written once.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

// In PyTorch's order of operations, so that both round alike.
void step(float* __restrict p, const float* __restrict g, float* __restrict square, float* __restrict delta_square,
          int64_t count, float rate, float rho, float eps, float decay) {
    for (int64_t i = 0; i < count; ++i) {
        const float gradient = g[i] + decay * p[i];
        const float s = square[i] * rho + (1 - rho) * gradient * gradient;
        const float delta = std::sqrt(delta_square[i] + eps) / std::sqrt(s + eps) * gradient;
        square[i] = s;
        delta_square[i] = delta_square[i] * rho + (1 - rho) * delta * delta;
        p[i] -= rate * delta;
    }
}

}  // namespace

// One step of `count` parameters p with gradients g; `square` and `delta_square` are the running means of their squares.
extern "C" void mofaface_adadelta(float* p, const float* g, float* square, float* delta_square, int64_t count, float rate,
                                  float rho, float eps, float decay, int32_t threads) {
    // Below this a thread costs more than it saves.
    constexpr int64_t LEAST = 1 << 16;
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, count / LEAST));
    std::vector<std::thread> others;
    auto part = [=](int64_t k) {
        const int64_t first = count * k / parts, last = count * (k + 1) / parts;
        step(p + first, g + first, square + first, delta_square + first, last - first, rate, rho, eps, decay);
    };
    for (int64_t k = 1; k < parts; ++k) others.emplace_back(part, k);
    part(0);
    for (auto& thread : others) thread.join();
}
