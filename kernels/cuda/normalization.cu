// Normalization, number by number: the forward pass, and the gradient of x from the averages. A thread keeps what belongs to its
// columns, and takes four rows of them. See kernels/reference/normalization.py.
#include "norm.cuh"

const int ROWS = 4, THREADS = 256;

// weight, bias, addend: null where there is none.
template <class T, int N>
__global__ void __launch_bounds__(THREADS, 2) normalize_forward(
        const T* x, const real_t<T>* mean, const real_t<T>* rstd, const real_t<T>* weight, const real_t<T>* bias,
        const T* addend, T* y, int rectify, View v) {
    typedef real_t<T> R;
    Part p = part_of(v, N);
    if (p.column >= v.columns) return;
    Pack<T, N> xs[ROWS], addends[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        index_t row = p.row + i * (index_t)blockDim.y;
        if (row >= p.end) break;
        xs[i] = load_pack<T, N>(x + row * v.columns + p.column);
        if (addend) addends[i] = load_pack<T, N>(addend + row * v.columns + p.column);
    }
    Column<R> columns[N];
#pragma unroll
    for (int n = 0; n < N; n++) columns[n].begin(v, weight, bias, p.column + n);
    index_t now = -1;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        index_t row = p.row + i * (index_t)blockDim.y;
        if (row >= p.end) break;
        index_t m = statistics_of(v, row);
#pragma unroll
        for (int n = 0; n < N; n++) {
            Column<R>& c = columns[n];
            if (m != now) c.enter(v, mean, rstd, m);
            R value = affine<R>(widen(xs[i].at[n]), c.mean, c.scale, c.bias);
            if (addend) value += widen(addends[i].at[n]);
            xs[i].at[n] = narrow<T>(rectify && value <= 0 ? R(0) : value);
        }
        now = m;
        store_pack(y + row * v.columns + p.column, xs[i]);
    }
}

// gx = rstd * (g - average(g) - xhat * average(g * xhat)); without the averages (null) rstd * g.
template <class T, int N>
__global__ void __launch_bounds__(THREADS, 2) normalize_backward(
        const T* gy, const T* x, const real_t<T>* mean, const real_t<T>* rstd, const real_t<T>* weight, const real_t<T>* bias,
        const real_t<T>* projection, const real_t<T>* average, T* gx, int rectify, View v) {
    typedef real_t<T> R;
    Part p = part_of(v, N);
    if (p.column >= v.columns) return;
    Pack<T, N> gs[ROWS], xs[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        index_t row = p.row + i * (index_t)blockDim.y;
        if (row >= p.end) break;
        gs[i] = load_pack<T, N>(gy + row * v.columns + p.column);
        xs[i] = load_pack<T, N>(x + row * v.columns + p.column);
    }
    Column<R> columns[N];
    R projections[N], averages[N];
#pragma unroll
    for (int n = 0; n < N; n++) columns[n].begin(v, weight, bias, p.column + n);
    index_t now = -1;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        index_t row = p.row + i * (index_t)blockDim.y;
        if (row >= p.end) break;
        index_t m = statistics_of(v, row);
#pragma unroll
        for (int n = 0; n < N; n++) {
            Column<R>& c = columns[n];
            if (m != now) {
                c.enter(v, mean, rstd, m);
                projections[n] = projection ? projection[m * v.b + c.statistic] : R(0);
                averages[n] = average ? average[m * v.b + c.statistic] : R(0);
            }
            R value = widen(xs[i].at[n]), g = widen(gs[i].at[n]);
            if (rectify) g = passed<T>(g, affine(value, c.mean, c.scale, c.bias));
            g *= c.weight;
            if (average) g = g - averages[n] - (value - c.mean) * c.rstd * projections[n];
            gs[i].at[n] = narrow<T>(g * c.rstd);
        }
        now = m;
        store_pack(gx + row * v.columns + p.column, gs[i]);
    }
}
