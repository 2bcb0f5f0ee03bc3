// Max pooling, with fixed windows and adaptive. See kernels/reference/pooling.py.
#include "windows.cuh"

// The largest numbers so far of N channels, and where they were: as pixels of the plane, -1 before the first.
template <class T, int N>
struct Largest {
    real_t<T> value[N];
    index_t place[N];

    __device__ __forceinline__ Largest() {
#pragma unroll
        for (int i = 0; i < N; i++) value[i] = -__uint_as_float(0x7f800000u), place[i] = -1;
    }

    // The next pixel in reading order: of equal numbers the first stays, but NaN is always taken.
    __device__ __forceinline__ void see(const Pack<T, N>& x, index_t pixel) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            real_t<T> seen = widen(x.at[i]);
            bool wins = seen > value[i] || seen != seen || place[i] < 0;
            value[i] = wins ? seen : value[i];
            place[i] = wins ? pixel : place[i];
        }
    }

    __device__ __forceinline__ void store(T* y, index_t* indices) const {
        store_rounded<T, N>(y, value);
        Pack<index_t, N> places;
#pragma unroll
        for (int i = 0; i < N; i++) places.at[i] = place[i];
        store_pack(indices, places);
    }
};

// y and indices (N, oh, ow, C) of x (N, H, W, C): a thread reads one window of N channels.
template <class T, int N>
__global__ void max_pool(const T* x, T* y, index_t* indices, Pooling g) {
    index_t at = thread_number();
    if (at >= (index_t)g.n * g.oh * g.ow * (g.c / N)) return;
    Spot s = spot<N>(at, g.oh, g.ow, g.c);
    Largest<T, N> largest;
    int top = s.row * g.sh - g.ph, left = s.column * g.sw - g.pw;
    for (int i = 0; i < g.kh; i++) {
        int h = top + i * g.dh;
        if ((unsigned)h >= (unsigned)g.h) continue;
        const T* row = x + (s.image * g.h + h) * g.w * g.c + s.channel;
        for (int j = 0; j < g.kw; j++) {
            int w = left + j * g.dw;
            if ((unsigned)w < (unsigned)g.w) largest.see(load_pack<T, N>(row + (index_t)w * g.c), (index_t)h * g.w + w);
        }
    }
    largest.store(y + at * N, indices + at * N);
}

template <class T, int N>
__global__ void adaptive_max_pool(const T* x, T* y, index_t* indices, Pooling g) {
    index_t at = thread_number();
    if (at >= (index_t)g.n * g.oh * g.ow * (g.c / N)) return;
    Spot s = spot<N>(at, g.oh, g.ow, g.c);
    Axes<true> axes(g);
    Range rows = axes.rows.pixels(s.row), columns = axes.columns.pixels(s.column);
    Largest<T, N> largest;
    for (int h = rows.first; h < rows.end; h++) {
        const T* row = x + (s.image * g.h + h) * g.w * g.c + s.channel;
        for (int w = columns.first; w < columns.end; w++)
            largest.see(load_pack<T, N>(row + (index_t)w * g.c), (index_t)h * g.w + w);
    }
    largest.store(y + at * N, indices + at * N);
}

// Whether the number ``a`` at place ``p`` stands before ``b`` at place ``q``, wherever the two were read: the larger one, or NaN;
// of two NaN the last, of two equal numbers the first. A place of -1 has seen nothing.
template <class R>
__device__ __forceinline__ bool stands_before(R a, index_t p, R b, index_t q) {
    if (p < 0 || q < 0) return q < 0;
    bool nan_a = a != a, nan_b = b != b;
    if (nan_a || nan_b) return nan_a && (!nan_b || p > q);
    return a > b || (a == b && p < q);
}

// For large bins: a block of (packs of channels) x (lines) threads shares the pixels of one bin.
template <class T, int N>
__global__ void adaptive_max_pool_large(const T* x, T* y, index_t* indices, Pooling g) {
    __shared__ real_t<T> values[N][256];
    __shared__ index_t places[N][256];
    int groups = divide_up(g.c / N, blockDim.x), me = threadIdx.y * blockDim.x + threadIdx.x;
    int number = blockIdx.x / groups, channel = ((blockIdx.x - number * groups) * blockDim.x + threadIdx.x) * N;
    Grid bin = on_grid(number, g.oh, g.ow);
    Axes<true> axes(g);
    Range rows = axes.rows.pixels(bin.row), columns = axes.columns.pixels(bin.column);
    Largest<T, N> largest;
    if (channel < g.c) {
        int width = columns.end - columns.first;
        index_t size = (index_t)(rows.end - rows.first) * width;
        for (index_t k = threadIdx.y; k < size; k += blockDim.y) {
            index_t line = quotient(k, width), pixel = (rows.first + line) * g.w + columns.first + (k - line * width);
            largest.see(load_pack<T, N>(x + (bin.image * g.h * g.w + pixel) * g.c + channel), pixel);
        }
    }
    for (int half = blockDim.y / 2; half; half /= 2) {
        if (threadIdx.y >= half && threadIdx.y < 2 * half)
            for (int i = 0; i < N; i++) values[i][me] = largest.value[i], places[i][me] = largest.place[i];
        __syncthreads();
        if (threadIdx.y < half) {
#pragma unroll
            for (int i = 0; i < N; i++) {
                real_t<T> value = values[i][me + half * blockDim.x];
                index_t place = places[i][me + half * blockDim.x];
                if (!stands_before(value, place, largest.value[i], largest.place[i])) continue;
                largest.value[i] = value, largest.place[i] = place;
            }
        }
    }
    index_t at = (index_t)number * g.c + channel;
    if (threadIdx.y == 0 && channel < g.c) largest.store(y + at, indices + at);
}

// gx (N, H, W, C): every pixel adds up the gradients of the windows that name it, in reading order.
template <class T, int N, bool ADAPTIVE>
__global__ void max_pool_backward(const T* gy, const index_t* indices, T* gx, Pooling g) {
    index_t at = thread_number();
    if (at >= (index_t)g.n * g.h * g.w * (g.c / N)) return;
    Spot s = spot<N>(at, g.h, g.w, g.c);
    Axes<ADAPTIVE> axes(g);
    Range rows = axes.rows.windows(s.row), columns = axes.columns.windows(s.column);
    index_t here = (index_t)s.row * g.w + s.column;
    real_t<T> total[N] = {};
    for (int i = rows.first; i < rows.end; i++) {
        for (int j = columns.first; j < columns.end; j++) {
            index_t from = ((s.image * g.oh + i) * g.ow + j) * g.c + s.channel;
            Pack<index_t, N> places = load_pack<index_t, N>(indices + from);
            Pack<T, N> gradients = load_pack<T, N>(gy + from);
#pragma unroll
            for (int k = 0; k < N; k++)
                if (places.at[k] == here) total[k] += widen(gradients.at[k]);
        }
    }
    store_rounded<T, N>(gx + at * N, total);
}
