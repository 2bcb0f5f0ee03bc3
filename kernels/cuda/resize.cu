// Up- and down-sampling. See kernels/reference/resize.py.
//
// Which pixels an output is made of is one function of its index that never falls, so the outputs made of one pixel are
// neighbours. The backward pass asks that same function for them: both passes agree, however its products are rounded.
#include "pixels.cuh"

enum Mode { NEAREST, BILINEAR, ALIGNED };  // ALIGNED: bilinear, the corners of input and output coincide

struct Resizing {
    int n, c, h, w, oh, ow;
};

// The two pixels between which an output along one axis lies, and how far behind the first (0 to 1).
struct Source {
    int first, second;
    double t;
};

template <Mode MODE>
struct Axis {
    int size, count;
    double scale;

    __device__ __forceinline__ Source source(int i) const {
        if (count == size) return {i, i, 0.0};
        if (MODE == NEAREST) {
            int first = min((int)floorf(__fmul_rn((float)i, (float)scale)), size - 1);
            return {first, first, 0.0};
        }
        // no product is added without having been rounded: first would not always be what the reference says
        double at = MODE == ALIGNED ? __dmul_rn(i, scale) : fmax(__dmul_rn(i + 0.5, scale) - 0.5, 0.0);
        int first = min((int)at, size - 1);
        return {first, min(first + 1, size - 1), fmin(fmax(at - first, 0.0), 1.0)};
    }

    // The first output whose ``first`` is at least ``pixel``: a guess, and steps from there.
    __device__ __forceinline__ int first_output(int pixel) const {
        if (pixel <= 0) return 0;
        if (pixel >= size) return count;
        int i = scale > 0 ? (int)fmin(pixel / scale, (double)count) : 0;
        while (i > 0 && source(i - 1).first >= pixel) i--;
        while (i < count && source(i).first < pixel) i++;
        return i;
    }
};

// y (N, oh, ow, C) of x (N, H, W, C): a thread writes N channels of a pixel.
template <class T, int N>
__global__ void nearest(const T* x, T* y, Resizing g, double scale_h, double scale_w) {
    index_t at = thread_number();
    if (at >= (index_t)g.n * g.oh * g.ow * (g.c / N)) return;
    Spot s = spot<N>(at, g.oh, g.ow, g.c);
    int h = Axis<NEAREST>{g.h, g.oh, scale_h}.source(s.row).first, w = Axis<NEAREST>{g.w, g.ow, scale_w}.source(s.column).first;
    store_pack(y + at * N, load_pack<T, N>(x + ((s.image * g.h + h) * g.w + w) * g.c + s.channel));
}

template <class T, int N, Mode MODE>
__global__ void bilinear(const T* x, T* y, Resizing g, double scale_h, double scale_w) {
    index_t at = thread_number();
    if (at >= (index_t)g.n * g.oh * g.ow * (g.c / N)) return;
    Spot s = spot<N>(at, g.oh, g.ow, g.c);
    Source row = Axis<MODE>{g.h, g.oh, scale_h}.source(s.row), column = Axis<MODE>{g.w, g.ow, scale_w}.source(s.column);
    const T* from = x + s.image * g.h * g.w * g.c + s.channel;
    auto pixel = [&](int h, int w) { return load_pack<T, N>(from + ((index_t)h * g.w + w) * g.c); };
    sum_t<T> left[N] = {}, right[N] = {}, value[N];
    sum_t<T> above = 1.0 - row.t, below = row.t, before = 1.0 - column.t, behind = column.t;
    add_pack(left, pixel(row.first, column.first), above);
    add_pack(left, pixel(row.second, column.first), below);
    add_pack(right, pixel(row.first, column.second), above);
    add_pack(right, pixel(row.second, column.second), below);
#pragma unroll
    for (int i = 0; i < N; i++) value[i] = left[i] * before + right[i] * behind;
    store_rounded<T, N>(y + at * N, value);
}

// gx (N, H, W, C): every pixel adds up its shares of the outputs that were made of it.
template <class T, int N, Mode MODE>
__global__ void resize_backward(const T* gy, T* gx, Resizing g, double scale_h, double scale_w) {
    index_t at = thread_number();
    if (at >= (index_t)g.n * g.h * g.w * (g.c / N)) return;
    Spot s = spot<N>(at, g.h, g.w, g.c);
    Axis<MODE> rows{g.h, g.oh, scale_h}, columns{g.w, g.ow, scale_w};
    const int behind = MODE == NEAREST ? 0 : 1;  // a pixel is the second one of the outputs between it and the one before it
    int top = rows.first_output(s.row - behind), bottom = rows.first_output(s.row + 1);
    int left = columns.first_output(s.column - behind), right = columns.first_output(s.column + 1);
    sum_t<T> total[N] = {};
    for (int i = top; i < bottom; i++) {
        Source row = rows.source(i);
        const T* from = gy + (s.image * g.oh + i) * g.ow * g.c + s.channel;
        for (int a = 0; a <= behind; a++) {  // beyond the last row both of an output's rows are that one, and both count
            if ((a ? row.second : row.first) != s.row) continue;
            double height = a ? row.t : 1.0 - row.t;
            for (int j = left; j < right; j++) {
                Source column = columns.source(j);
                Pack<T, N> gradient = load_pack<T, N>(from + (index_t)j * g.c);
                if (column.first == s.column) add_pack(total, gradient, (sum_t<T>)(height * (1.0 - column.t)));
                if (behind && column.second == s.column) add_pack(total, gradient, (sum_t<T>)(height * column.t));
            }
        }
    }
    store_rounded<T, N>(gx + at * N, total);
}
