// What `fused.cpp` is given and gives: mirrored by the ctypes structures of `native.py`.

#pragma once
#include <cstdint>

extern "C" {

// Rows of a sparse matrix, compressed: row r has entries start[r] … start[r + 1].
struct Rows {
    const int32_t* start;
    const int32_t* column;
    const float* value;
};

// A basis in tiles of 16 vertices: mean [tiles][3][16], basis [tiles][modes][3][16] of one kind of number.
struct Basis {
    int32_t tiles, modes;
    int32_t kind;  // 0 float32, 1 bfloat16, 2 int8
    const float* mean;
    const void* numbers;
    const float* scale;  // [modes], what a stored number is worth
};

// A face model as `packing.py` lays it out. Rows are the vertices that the loss needs, the frontal ones first.
struct Model {
    int32_t frontal, rows, points;
    int32_t shape_expression, reflectance_modes;
    struct Basis geometry;     // of the rows, or of the cage that S subdivides
    struct Basis reflectance;  // of the frontal rows
    struct Basis landmarks;    // of the landmarks' vertices, float32 over the scales of geometry
    struct Rows S, S_transposed;  // start == nullptr: geometry is given on the rows themselves
    struct Rows ring;             // corners in fans, the first of each as ~corner; value unused
};

struct Camera {
    float focal, centre_x, centre_y, nearest, distance;
    float ambient;
};

// One batch. Everything is contiguous float32; pointers that may be null say so.
struct Batch {
    int32_t pictures, height, width, code_size;
    const float* codes;       // [pictures][code_size]: α δ β rotation translation γ
    const float* image;       // [pictures][3][height][width]
    const float* targets;     // [pictures][points][2] or null
    const float* confidence;  // [pictures][points] or null
    float* photo;             // [pictures], E_photo
    float* land;              // [pictures], E_land, or null
    float* places;            // [pictures][points][2], pixels
    float* front;             // [pictures], number of front-facing frontal vertices
    float* photo_gradient;    // [pictures][code_size] or null: no gradients then
    float* land_gradient;     // [pictures][code_size] or null
};

int64_t mofaface_workspace(const struct Model*, int32_t pictures, int32_t threads);
void mofaface_terms(const struct Model*, const struct Camera*, const struct Batch*, void* workspace, int32_t threads);
}
