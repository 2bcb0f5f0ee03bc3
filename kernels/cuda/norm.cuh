// What the normalization kernels share: how a view of an activation is walked, and sums without rounding errors.
#pragma once
#include "common.cuh"

// An activation as rows of columns. A block has blockDim.y rows of threads, each for some neighbouring columns, and takes one
// slice of the rows of one of the outer parts. Rows a at a time share statistics, and so do the columns length at a time.
struct View {
    index_t outers, rows, columns;  // the array is outers x rows x columns
    index_t slices, per_slice;      // of the rows of an outer part
    index_t a, b, length;           // row r of all has the statistics r / a, column j the statistics j / length of b
    index_t column_blocks;
};

// 64-bit divisions are slow.
__device__ __forceinline__ index_t divide(index_t x, index_t y) {
    return ((x | y) >> 31) == 0 ? (index_t)((unsigned)x / (unsigned)y) : x / y;
}

// The part of the array for this thread: every blockDim.y-th row from ``row`` to ``end``, of the columns from ``column`` on.
struct Part {
    index_t outer, slice, row, end, column;
};

__device__ __forceinline__ Part part_of(const View& v, int width) {
    unsigned rest = blockIdx.x / (unsigned)v.column_blocks, column_block = blockIdx.x - rest * (unsigned)v.column_blocks;
    Part p;
    p.outer = rest / (unsigned)v.slices;
    p.slice = rest - p.outer * v.slices;
    p.row = p.slice * v.per_slice + threadIdx.y;
    p.end = min(v.rows, (p.slice + 1) * v.per_slice);
    p.column = ((index_t)column_block * blockDim.x + threadIdx.x) * width;
    return p;
}

// A sum and the rounding errors that it made (Knuth's two-sum): as good as additions in double, which are slow on most cards.
// After Infinity or NaN, or beyond the range of float, it is not finite.
template <class R>
struct Sum {
    R high = 0, low = 0;
    __device__ __forceinline__ void add(R x) {
        R sum = high + x, part = sum - high;
        low += (high - (sum - part)) + (x - part);
        high = sum;
    }
    __device__ __forceinline__ bool finite() const { return isfinite(high) && isfinite(low); }
    __device__ __forceinline__ double value() const { return (double)high + (double)low; }
};

// A product that is rounded, whatever it is added to.
__device__ __forceinline__ float rounded_product(float x, float y) { return __fmul_rn(x, y); }
__device__ __forceinline__ double rounded_product(double x, double y) { return __dmul_rn(x, y); }

// y before a rectifier: in one place, because the gradient must see the same bits.
template <class R>
__device__ __forceinline__ R affine(R x, R mean, R scale, R bias) {
    return fma(x - mean, scale, bias);
}

// What a rectifier lets through of the gradient of T(y).
template <class T, class R>
__device__ __forceinline__ R passed(R gy, R y) {
    return widen(narrow<T>(y)) <= 0 ? R(0) : gy;
}

// The affine map of one column.
template <class R>
struct Column {
    int statistic;  // which of the b statistics
    R weight, bias, mean, rstd, scale;
    __device__ __forceinline__ void begin(const View& v, const R* weights, const R* biases, index_t column) {
        statistic = (int)(v.length == 1 ? column : divide(column, v.length));
        weight = weights ? weights[column] : R(1);
        bias = biases ? biases[column] : R(0);
    }
    __device__ __forceinline__ void enter(const View& v, const R* means, const R* rstds, index_t m) {
        mean = means[m * v.b + statistic];
        rstd = rstds[m * v.b + statistic];
        scale = rstd * weight;
    }
};

// Which statistics the row ``r`` of all rows has.
__device__ __forceinline__ index_t statistics_of(const View& v, index_t r) {
    return v.a == v.outers * v.rows ? 0 : v.a == 1 ? r : divide(r, v.a);
}
