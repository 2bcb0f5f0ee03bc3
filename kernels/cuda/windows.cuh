// The windows of poolings. See kernels/reference/pooling.py.
#pragma once
#include "pixels.cuh"

// Of adaptive pooling the first six only count.
struct Pooling {
    int n, c, h, w, oh, ow;
    int kh, kw, sh, sw, ph, pw, dh, dw;
    int padding_counts;  // into the size of a window
    int divisor;         // 0: the size of the window
};

// Numbers from ``first`` on, before ``end``.
struct Range {
    int first, end;
};

// The windows along one axis: ``size`` pixels, ``count`` windows.
struct FixedAxis {
    int size, count, kernel, stride, pad, dilation;
    bool padding_counts;

    // The pixels of window i if there is no dilation.
    __device__ __forceinline__ Range pixels(int i) const {
        int start = i * stride - pad;
        return {max(start, 0), min(start + kernel, size)};
    }

    // What counts as the length of window i: it is cut where the trailing padding ends.
    __device__ __forceinline__ int length(int i) const {
        int start = i * stride - pad, end = min(start + kernel, size + pad);
        return padding_counts ? end - start : min(end, size) - max(start, 0);
    }

    // The windows between whose first and last pixel lies ``pixel``.
    __device__ __forceinline__ Range windows(int pixel) const {
        int at = pixel + pad, reach = dilation * (kernel - 1);
        return {at > reach ? (at - reach + stride - 1) / stride : 0, min(at / stride + 1, count)};
    }
};

struct AdaptiveAxis {
    int size, count;

    __device__ __forceinline__ Range pixels(int i) const {
        return {(int)quotient((index_t)i * size, count), (int)quotient((index_t)(i + 1) * size + count - 1, count)};
    }

    __device__ __forceinline__ int length(int i) const {
        Range range = pixels(i);
        return range.end - range.first;
    }

    // Bin i holds ``pixel`` if i * size / count < pixel + 1 and (i + 1) * size / count > pixel.
    __device__ __forceinline__ Range windows(int pixel) const {
        return {(int)quotient((index_t)pixel * count, size), (int)quotient((index_t)(pixel + 1) * count - 1, size) + 1};
    }
};

template <bool ADAPTIVE>
struct Axes {
    FixedAxis rows, columns;
    __device__ __forceinline__ explicit Axes(const Pooling& g)
        : rows{g.h, g.oh, g.kh, g.sh, g.ph, g.dh, g.padding_counts != 0},
          columns{g.w, g.ow, g.kw, g.sw, g.pw, g.dw, g.padding_counts != 0} {}
};
template <>
struct Axes<true> {
    AdaptiveAxis rows, columns;
    __device__ __forceinline__ explicit Axes(const Pooling& g) : rows{g.h, g.oh}, columns{g.w, g.ow} {}
};
