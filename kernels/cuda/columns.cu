// im2col and col2im, and sums over columns. See kernels/reference/convolution.py.
#include "window.cuh"

// columns (N oh ow, C kh kw) of x (N, H, W, C); a thread writes one element.
template <class T>
__global__ void im2col(const T* x, T* columns, Window g) {
    index_t at = thread_number();
    int taps = g.kh * g.kw;
    if (at >= (index_t)g.n * g.oh * g.ow * g.c * taps) return;
    int tap = at % taps, c = at / taps % g.c;
    Grid window = on_grid(at / taps / g.c, g.oh, g.ow);
    int h = window.row * g.sh - g.top + tap / g.kw * g.dh, w = window.column * g.sw - g.left + tap % g.kw * g.dw;
    bool inside = (unsigned)h < (unsigned)g.h && (unsigned)w < (unsigned)g.w;
    columns[at] = inside ? x[((window.image * g.h + h) * g.w + w) * g.c + c] : T();
}

// x (N, H, W, C) from columns: a pixel adds up what the windows that saw it hold of it.
template <class T>
__global__ void col2im(const T* columns, T* x, Window g) {
    index_t at = thread_number();
    if (at >= (index_t)g.n * g.h * g.w * g.c) return;
    int c = at % g.c, taps = g.kh * g.kw;
    Grid pixel = on_grid(at / g.c, g.h, g.w);
    double sum = 0;
    for (int i = 0; i < g.kh; i++) {
        int h = pixel.row + g.top - i * g.dh, p = h / g.sh;
        if (h < 0 || h % g.sh || p >= g.oh) continue;
        for (int j = 0; j < g.kw; j++) {
            int w = pixel.column + g.left - j * g.dw, q = w / g.sw;
            if (w < 0 || w % g.sw || q >= g.ow) continue;
            sum += widen(columns[(((pixel.image * g.oh + p) * g.ow + q) * g.c + c) * taps + i * g.kw + j]);
        }
    }
    x[at] = narrow<T>((real_t<T>)sum);
}

// Sums of the columns of a matrix (rows, columns): blocks of 32 columns x 8 lines of threads add ``height`` rows each, and write
// parts (gridDim.y, columns).
template <class T>
__global__ void column_sums(const T* x, double* parts, index_t rows, int columns, index_t height) {
    __shared__ double lines[8][32];
    int column = blockIdx.x * 32 + threadIdx.x;
    index_t begin = blockIdx.y * height, end = min(begin + height, rows);
    double total = 0;
    if (column < columns) {
        for (index_t start = begin + threadIdx.y; start < end; start += 8 * 32) {
            real_t<T> sum = 0;  // of few numbers
            for (index_t row = start; row < min(start + 8 * 32, end); row += 8) sum += widen(x[row * columns + column]);
            total += sum;
        }
    }
    lines[threadIdx.y][threadIdx.x] = total;
    __syncthreads();
    if (threadIdx.y || column >= columns) return;
    for (int line = 1; line < 8; line++) total += lines[line][threadIdx.x];
    parts[(index_t)blockIdx.y * columns + column] = total;
}

template <class T>
__global__ void column_sums_end(const double* parts, T* sums, int count, int columns) {
    index_t column = thread_number();
    if (column >= columns) return;
    double total = 0;
    for (int part = 0; part < count; part++) total += parts[(index_t)part * columns + column];
    sums[column] = narrow<T>((real_t<T>)total);
}
