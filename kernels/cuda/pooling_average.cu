// Average pooling, with fixed windows and adaptive. See kernels/reference/pooling.py.
#include "windows.cuh"

// 1 / (height * width) of a window, or 1 / divisor. Divisions are slow and neighbouring windows have mostly one size: it is kept.
template <class S>
struct Share {
    int divisor, area = 1;
    S share;

    __device__ __forceinline__ explicit Share(int divisor) : divisor(divisor), share((S)1 / (divisor ? divisor : 1)) {}

    __device__ __forceinline__ S of(int height, int width) {
        int now = max(height * width, 1);
        if (!divisor && now != area) {
            area = now;
            share = (S)1 / now;
        }
        return share;
    }
};

template <bool ADAPTIVE>
__device__ __forceinline__ int fixed_divisor(const Pooling& g) {
    return ADAPTIVE ? 0 : g.divisor;
}

// y (N, oh, ow, C) of x (N, H, W, C): a thread reads one window of N channels.
template <class T, int N, bool ADAPTIVE>
__global__ void average_pool(const T* x, T* y, Pooling g) {
    index_t at = thread_number();
    if (at >= (index_t)g.n * g.oh * g.ow * (g.c / N)) return;
    Spot s = spot<N>(at, g.oh, g.ow, g.c);
    Axes<ADAPTIVE> axes(g);
    Range rows = axes.rows.pixels(s.row), columns = axes.columns.pixels(s.column);
    Share<sum_t<T>> shares(fixed_divisor<ADAPTIVE>(g));
    sum_t<T> share = shares.of(axes.rows.length(s.row), axes.columns.length(s.column));
    sum_t<T> mean[N] = {};
    for (int h = rows.first; h < rows.end; h++) {
        const T* row = x + (s.image * g.h + h) * g.w * g.c + s.channel;
        for (int w = columns.first; w < columns.end; w++) add_pack(mean, load_pack<T, N>(row + (index_t)w * g.c), share);
    }
    store_rounded<T, N>(y + at * N, mean);
}

// For large windows: a block of (packs of channels) x (lines) threads shares the pixels of one window; sums are added in pairs.
template <class T, int N, bool ADAPTIVE>
__global__ void average_pool_large(const T* x, T* y, Pooling g) {
    __shared__ double sums[N][256];
    const int PIECE = 32;  // numbers that are added in the smaller type
    int groups = divide_up(g.c / N, blockDim.x), me = threadIdx.y * blockDim.x + threadIdx.x;
    int number = blockIdx.x / groups, channel = ((blockIdx.x - number * groups) * blockDim.x + threadIdx.x) * N;
    Grid window = on_grid(number, g.oh, g.ow);
    Axes<ADAPTIVE> axes(g);
    Range rows = axes.rows.pixels(window.row), columns = axes.columns.pixels(window.column);
    Share<sum_t<T>> shares(fixed_divisor<ADAPTIVE>(g));
    sum_t<T> share = shares.of(axes.rows.length(window.row), axes.columns.length(window.column));
    double total[N] = {};
    int width = columns.end - columns.first;
    index_t size = channel < g.c ? (index_t)(rows.end - rows.first) * width : 0, step = PIECE * blockDim.y;
    for (index_t start = threadIdx.y; start < size; start += step) {
        sum_t<T> piece[N] = {};
        for (index_t k = start; k < min(start + step, size); k += blockDim.y) {
            index_t line = quotient(k, width), pixel = (rows.first + line) * g.w + columns.first + (k - line * width);
            add_pack(piece, load_pack<T, N>(x + (window.image * g.h * g.w + pixel) * g.c + channel), share);
        }
#pragma unroll
        for (int i = 0; i < N; i++) total[i] += piece[i];
    }
    for (int half = blockDim.y / 2; half; half /= 2) {
        if (threadIdx.y >= half && threadIdx.y < 2 * half)
            for (int i = 0; i < N; i++) sums[i][me] = total[i];
        __syncthreads();
        if (threadIdx.y < half)
            for (int i = 0; i < N; i++) total[i] += sums[i][me + half * blockDim.x];
    }
    if (threadIdx.y == 0 && channel < g.c) store_rounded<T, N>(y + (index_t)number * g.c + channel, total);
}

// gx (N, H, W, C): every pixel adds up its shares of the windows that hold it, in reading order.
template <class T, int N, bool ADAPTIVE>
__global__ void average_pool_backward(const T* gy, T* gx, Pooling g) {
    index_t at = thread_number();
    if (at >= (index_t)g.n * g.h * g.w * (g.c / N)) return;
    Spot s = spot<N>(at, g.h, g.w, g.c);
    Axes<ADAPTIVE> axes(g);
    Range rows = axes.rows.windows(s.row), columns = axes.columns.windows(s.column);
    Share<sum_t<T>> shares(fixed_divisor<ADAPTIVE>(g));
    sum_t<T> total[N] = {};
    for (int i = rows.first; i < rows.end; i++) {
        int height = axes.rows.length(i);
        const T* row = gy + (s.image * g.oh + i) * g.ow * g.c + s.channel;
        for (int j = columns.first; j < columns.end; j++)
            add_pack(total, load_pack<T, N>(row + (index_t)j * g.c), shares.of(height, axes.columns.length(j)));
    }
    store_rounded<T, N>(gx + at * N, total);
}
