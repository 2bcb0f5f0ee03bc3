// What all kernels share: number types, vectors in memory, indices.
#pragma once
#include "machine.cuh"

// Arrays can hold more than 2^31 elements.
typedef long long index_t;

// ---- number types --------------------------------------------------------------------------------------------------------

// The type in which a kernel computes with numbers of type T: float, and double for double.
template <class T>
struct Real {
    typedef float type;
};
template <>
struct Real<double> {
    typedef double type;
};
template <class T>
using real_t = typename Real<T>::type;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }

// A number rounded to the type in which it is stored.
template <class T>
struct Narrow;
template <>
struct Narrow<float> {
    static __device__ __forceinline__ float of(float x) { return x; }
    static __device__ __forceinline__ float of(double x) { return (float)x; }
};
template <>
struct Narrow<double> {
    static __device__ __forceinline__ double of(double x) { return x; }
};
template <>
struct Narrow<half_t> {
    static __device__ __forceinline__ half_t of(float x) { return to_half(x); }
    static __device__ __forceinline__ half_t of(double x) { return to_half((float)x); }
};
template <>
struct Narrow<bfloat16_t> {
    static __device__ __forceinline__ bfloat16_t of(float x) { return to_bfloat16(x); }
    static __device__ __forceinline__ bfloat16_t of(double x) { return to_bfloat16((float)x); }
};

template <class T, class R>
__device__ __forceinline__ T narrow(R x) {
    return Narrow<T>::of(x);
}

// ---- several neighbouring numbers, loaded and stored at once ---------------------------------------------------------------

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

template <class T, int N>
__device__ __forceinline__ Pack<T, N> load_pack(const T* x) {
    return *reinterpret_cast<const Pack<T, N>*>(x);
}

template <class T, int N>
__device__ __forceinline__ void store_pack(T* x, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(x) = pack;
}

// ---- where a thread stands ---------------------------------------------------------------------------------------------------

// The number of this thread in a grid of one dimension.
__device__ __forceinline__ index_t thread_number() { return (index_t)blockIdx.x * blockDim.x + threadIdx.x; }

// Which pixel of which image comes at place ``m`` of images of rows x columns pixels. 64-bit divisions are slow: only where needed.
struct Grid {
    index_t image;
    int row, column;
};

__device__ __forceinline__ Grid on_grid(index_t m, int rows, int columns) {
    if (m < 0x7fffffff) {
        unsigned line = (unsigned)m / (unsigned)columns, image = line / (unsigned)rows;
        return {image, (int)(line - image * rows), (int)((unsigned)m - line * columns)};
    }
    index_t line = m / columns, image = line / rows;
    return {image, (int)(line - image * rows), (int)(m - line * columns)};
}

__host__ __device__ constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }
