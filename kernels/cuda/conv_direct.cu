// Convolution by loops over the window, for groups of few channels (depthwise convolution: of one). A thread computes V
// neighbouring channels of one pixel; V > 1 where every channel is a group of its own.
// Filters lie as (kh, kw, channels of the group that are summed, channels that are written).
#include "window.cuh"

template <class T, int V>
__device__ __forceinline__ void multiply_add(real_t<T> (&sum)[V], const T* x, const T* filter) {
    Pack<T, V> value = load_pack<T, V>(x), factor = load_pack<T, V>(filter);
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] = fma(widen(value.at[i]), widen(factor.at[i]), sum[i]);
}

template <class T, int V>
__device__ __forceinline__ void store_sums(T* y, const T* bias, const real_t<T> (&sum)[V]) {
    Pack<T, V> pack;
#pragma unroll
    for (int i = 0; i < V; i++) pack.at[i] = narrow<T>(bias ? sum[i] + widen(bias[i]) : sum[i]);
    store_pack(y, pack);
}

// y (N, oh, ow, O) from x (N, H, W, C).
template <class T, int V>
__global__ void direct_forward(const T* x, const T* filters, const T* bias, T* y, Window g) {
    index_t at = thread_number() * V;
    if (at >= (index_t)g.n * g.oh * g.ow * g.o) return;
    int o = at % g.o, channels = g.c / g.groups, begin = o / (g.o / g.groups) * channels;
    Grid pixel = on_grid(at / g.o, g.oh, g.ow);
    const T* image = x + pixel.image * g.h * g.w * g.c + begin;
    real_t<T> sum[V] = {};
    for (int i = 0; i < g.kh; i++) {
        int h = pixel.row * g.sh - g.top + i * g.dh;
        if ((unsigned)h >= (unsigned)g.h) continue;
        for (int j = 0; j < g.kw; j++) {
            int w = pixel.column * g.sw - g.left + j * g.dw;
            if ((unsigned)w >= (unsigned)g.w) continue;
            const T* seen = image + ((index_t)h * g.w + w) * g.c;
            const T* filter = filters + (index_t)(i * g.kw + j) * channels * g.o + o;
            if (V > 1) {
                multiply_add<T, V>(sum, seen, filter);
            } else {
                for (int c = 0; c < channels; c++) sum[0] = fma(widen(seen[c]), widen(filter[(index_t)c * g.o]), sum[0]);
            }
        }
    }
    store_sums<T, V>(y + at, bias ? bias + o : nullptr, sum);
}

// gx (N, H, W, C) from gy (N, oh, ow, O): a pixel gathers from the windows that saw it.
template <class T, int V>
__global__ void direct_backward_input(const T* gy, const T* filters, const T* bias, T* gx, Window g) {
    index_t at = thread_number() * V;
    if (at >= (index_t)g.n * g.h * g.w * g.c) return;
    int c = at % g.c, channels = g.o / g.groups, begin = c / (g.c / g.groups) * channels;
    Grid pixel = on_grid(at / g.c, g.h, g.w);
    const T* image = gy + pixel.image * g.oh * g.ow * g.o + begin;
    real_t<T> sum[V] = {};
    for (int i = 0; i < g.kh; i++) {
        int h = pixel.row + g.top - i * g.dh, p = h / g.sh;
        if (h < 0 || h % g.sh || p >= g.oh) continue;
        for (int j = 0; j < g.kw; j++) {
            int w = pixel.column + g.left - j * g.dw, q = w / g.sw;
            if (w < 0 || w % g.sw || q >= g.ow) continue;
            const T* seen = image + ((index_t)p * g.ow + q) * g.o;
            const T* filter = filters + (index_t)(i * g.kw + j) * channels * g.c + c;
            if (V > 1) {
                multiply_add<T, V>(sum, seen, filter);
            } else {
                for (int o = 0; o < channels; o++) sum[0] = fma(widen(seen[o]), widen(filter[(index_t)o * g.c]), sum[0]);
            }
        }
    }
    store_sums<T, V>(gx + at, bias ? bias + c : nullptr, sum);
}

// The part of the weight gradient that comes from ``lines`` lines of output pixels: parts (blockIdx.y, taps, channels, O). A
// thread has one weight; neighbouring threads neighbouring output channels.
template <class T>
__global__ void direct_backward_weight(const T* gy, const T* x, double* parts, Window g, int lines) {
    index_t at = thread_number(), channels = g.c / g.groups, size = g.kh * g.kw * channels * g.o;
    if (at >= size) return;
    int o = at % g.o, channel = at / g.o % channels, tap = at / g.o / channels;
    int from = o / (g.o / g.groups) * (int)channels + channel, i = tap / g.kw * g.dh, j = tap % g.kw * g.dw;
    index_t end = min((index_t)(blockIdx.y + 1) * lines, (index_t)g.n * g.oh);
    double total = 0;
    for (index_t line = (index_t)blockIdx.y * lines; line < end; line++) {
        index_t image = line / g.oh;
        int h = (int)(line - image * g.oh) * g.sh - g.top + i;
        if ((unsigned)h >= (unsigned)g.h) continue;
        const T* seen = x + (image * g.h + h) * g.w * g.c + from;
        const T* gradient = gy + line * g.ow * g.o + o;
        real_t<T> sum = 0;
        for (int q = 0; q < g.ow; q++) {
            int w = q * g.sw - g.left + j;
            if ((unsigned)w < (unsigned)g.w) sum = fma(widen(gradient[(index_t)q * g.o]), widen(seen[(index_t)w * g.c]), sum);
        }
        total += sum;
    }
    parts[blockIdx.y * size + at] = total;
}

// gw (O, channels, taps) from the parts, added in their order.
template <class T>
__global__ void direct_weight_sum(const double* parts, T* gw, int count, int outputs, int taps, int channels) {
    index_t at = thread_number(), size = (index_t)outputs * taps * channels;
    if (at >= size) return;
    int o = at % outputs, channel = at / outputs % channels;
    index_t tap = at / outputs / channels;
    double sum = 0;
    for (int part = 0; part < count; part++) sum += parts[part * size + at];
    gw[((index_t)o * channels + channel) * taps + tap] = narrow<T>((real_t<T>)sum);
}
