// Local response normalization. See kernels/reference/normalization.py. An array is pixels x channels; a thread has one number.
#include "common.cuh"

struct Window {
    int channels, before, after;  // from channel c - before to c + after
};

// x ** -exponent. Square roots are fast, a general power is not: 3/4 is AlexNet's exponent.
template <class R>
__device__ __forceinline__ R negative_power(R x, R exponent) {
    if (exponent == R(0.75)) {
        R root = sqrt(x);
        return 1 / (root * sqrt(root));
    }
    return pow(x, -exponent);
}

__device__ __forceinline__ int channel_of(index_t i, int channels) {
    return (i >> 31) == 0 ? (int)((unsigned)i % (unsigned)channels) : (int)(i % channels);
}

template <class T>
__global__ void lrn_forward(const T* x, T* y, T* scale, real_t<T> alpha, real_t<T> beta, real_t<T> k, index_t size, Window w) {
    typedef real_t<T> R;
    index_t at = thread_number();
    if (at >= size) return;
    int c = channel_of(at, w.channels);
    R sum = 0;
    for (int j = max(0, c - w.before); j <= min(w.channels - 1, c + w.after); j++) {
        R neighbour = widen(x[at + j - c]);
        sum = fma(neighbour, neighbour, sum);
    }
    sum = k + alpha * sum;
    scale[at] = narrow<T>(sum);
    y[at] = narrow<T>(widen(x[at]) * negative_power(sum, beta));
}

// The share of gx that comes through the scale of one number: factor * gy * x * scale ** (-beta - 1).
template <class T>
__device__ __forceinline__ real_t<T> share_of(const T* gy, const T* x, const T* scale, index_t at, real_t<T> factor,
                                              real_t<T> beta) {
    typedef real_t<T> R;
    R s = widen(scale[at]);
    return factor * (negative_power(s, beta) * widen(gy[at])) * widen(x[at]) / s;
}

// The shares of a block and of its neighbours are computed once, into shared memory, unless the window is so large (TILE false).
template <class T, bool TILE>
__global__ void lrn_backward(const T* gy, const T* x, const T* scale, T* gx, real_t<T> factor, real_t<T> beta, index_t size,
                             Window w) {
    typedef real_t<T> R;
    DYNAMIC_SHARED(shared);
    R* shares = (R*)shared;
    index_t first = (index_t)blockIdx.x * blockDim.x, at = first + threadIdx.x;
    if (TILE) {
        for (int i = threadIdx.x; i < (int)blockDim.x + w.before + w.after; i += blockDim.x) {
            index_t other = first - w.before + i;
            shares[i] = other >= 0 && other < size ? share_of(gy, x, scale, other, factor, beta) : R(0);
        }
        __syncthreads();
    }
    if (at >= size) return;
    int c = channel_of(at, w.channels);
    R sum = 0;
    for (int j = max(-w.before, -c); j <= min(w.after, w.channels - 1 - c); j++)
        sum += TILE ? shares[threadIdx.x + w.before + j] : share_of(gy, x, scale, at + j, factor, beta);
    gx[at] = narrow<T>(negative_power<R>(widen(scale[at]), beta) * widen(gy[at]) - widen(x[at]) * sum);
}
