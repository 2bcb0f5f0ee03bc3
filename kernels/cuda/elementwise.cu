// Rectifiers and sums, element by element. See kernels/reference/elementwise.py.
#include "common.cuh"

// Calls f(i) for the N elements from this thread's place on, those that lie in the array.
template <int N, class F>
__device__ __forceinline__ bool whole_pack(index_t at, index_t size, F one_by_one) {
    if (at + N <= size) return true;
    for (index_t i = at; i < size; i++) one_by_one(i);
    return false;
}

template <class T>
__device__ __forceinline__ T rectified(T x) {
    return widen(x) <= 0 ? T() : x;  // NaN stays
}

template <class T, int N>
__global__ void relu_forward(const T* x, T* y, index_t size) {
    index_t at = thread_number() * N;
    if (!whole_pack<N>(at, size, [&](index_t i) { y[i] = rectified(x[i]); })) return;
    Pack<T, N> v = load_pack<T, N>(x + at);
#pragma unroll
    for (int i = 0; i < N; i++) v.at[i] = rectified(v.at[i]);
    store_pack(y + at, v);
}

template <class T>
__device__ __forceinline__ T passed(T gy, T y) {
    return widen(y) <= 0 ? T() : gy;
}

template <class T, int N>
__global__ void relu_backward(const T* gy, const T* y, T* gx, index_t size) {
    index_t at = thread_number() * N;
    if (!whole_pack<N>(at, size, [&](index_t i) { gx[i] = passed(gy[i], y[i]); })) return;
    Pack<T, N> g = load_pack<T, N>(gy + at), v = load_pack<T, N>(y + at);
#pragma unroll
    for (int i = 0; i < N; i++) g.at[i] = passed(g.at[i], v.at[i]);
    store_pack(gx + at, g);
}

template <class T>
__device__ __forceinline__ T sum_of(T x, T y) {
    return narrow<T>(widen(x) + widen(y));
}

// The same for the sum of two gradients.
template <class T, int N>
__global__ void relu_backward_sum(const T* gy, const T* other, const T* y, T* gx, index_t size) {
    index_t at = thread_number() * N;
    if (!whole_pack<N>(at, size, [&](index_t i) { gx[i] = passed(sum_of(gy[i], other[i]), y[i]); })) return;
    Pack<T, N> g = load_pack<T, N>(gy + at), o = load_pack<T, N>(other + at), v = load_pack<T, N>(y + at);
#pragma unroll
    for (int i = 0; i < N; i++) g.at[i] = passed(sum_of(g.at[i], o.at[i]), v.at[i]);
    store_pack(gx + at, g);
}

template <class T, int N>
__global__ void add(const T* x, const T* y, T* total, index_t size) {
    index_t at = thread_number() * N;
    if (!whole_pack<N>(at, size, [&](index_t i) { total[i] = sum_of(x[i], y[i]); })) return;
    Pack<T, N> v = load_pack<T, N>(x + at), w = load_pack<T, N>(y + at);
#pragma unroll
    for (int i = 0; i < N; i++) v.at[i] = sum_of(v.at[i], w.at[i]);
    store_pack(total + at, v);
}
