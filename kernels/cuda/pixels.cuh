// What kernels over the pixels of channels-last images share: where a thread stands, and in which type it adds up.
#pragma once
#include "common.cuh"

// The type of sums and averages of numbers of type T: so wide that what is stored is rounded once, as far as T can tell.
template <class T>
struct Sum {
    typedef double type;
};
template <>
struct Sum<half_t> {
    typedef float type;
};
template <>
struct Sum<bfloat16_t> {
    typedef float type;
};
template <class T>
using sum_t = typename Sum<T>::type;

// a / b rounded down, of numbers from 0 on. 64-bit divisions are slow: only where needed.
__device__ __forceinline__ index_t quotient(index_t a, int b) {
    return a < 0x7fffffff ? (index_t)((unsigned)a / (unsigned)b) : a / b;
}

// N channels of one pixel of images of rows x columns pixels.
struct Spot {
    index_t image;
    int row, column, channel;
};

// The spot of thread ``number``: neighbouring threads have neighbouring channels.
template <int N>
__device__ __forceinline__ Spot spot(index_t number, int rows, int columns, int channels) {
    int packs = channels / N;
    index_t pixel = quotient(number, packs);
    Grid grid = on_grid(pixel, rows, columns);
    return {grid.image, grid.row, grid.column, (int)(number - pixel * packs) * N};
}

// total[i] += factor * x[i]
template <class T, int N, class S>
__device__ __forceinline__ void add_pack(S (&total)[N], const Pack<T, N>& x, S factor) {
#pragma unroll
    for (int i = 0; i < N; i++) total[i] += factor * (S)widen(x.at[i]);
}

template <class T, int N, class S>
__device__ __forceinline__ void store_rounded(T* x, const S (&values)[N]) {
    Pack<T, N> pack;
#pragma unroll
    for (int i = 0; i < N; i++) pack.at[i] = narrow<T>(values[i]);
    store_pack(x, pack);
}
