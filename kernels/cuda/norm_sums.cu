// The sums behind the gradients of a normalization. See kernels/reference/normalization.py.
//
// Sums are kept with their rounding errors (Sum), so they are as good as in double; a thread whose sums go beyond the range of
// float, or that met Infinity or NaN, takes its numbers again, in double.
#include "norm.cuh"

const int THREADS = 256;

// g and g * xhat, both as the sum of two numbers: of a product and a difference the rounding errors count too.
template <class R>
__device__ __forceinline__ void add_terms(Sum<R>& gradient, Sum<R>& product, R g, R x, R mean, R rstd) {
    gradient.add(g);
    R difference = x - mean, part = difference - x;
    R left = (x - (difference - part)) - (mean + part);
    R xhat = rounded_product(difference, rstd), xhat_left = fma(difference, rstd, -xhat) + left * rstd;
    R term = rounded_product(g, xhat);
    product.add(term);
    product.low += fma(g, xhat, -term) + g * xhat_left;
}

// Sum of gy * xhat and of gy for each (outer, slice, column); xhat has the mean and rstd of its row.
template <class T, int N>
__global__ void __launch_bounds__(THREADS) sums_columns(
        const T* gy, const T* x, const real_t<T>* mean, const real_t<T>* rstd, const real_t<T>* weight, const real_t<T>* bias,
        double* partial, int rectify, View v) {
    typedef real_t<T> R;
    const int ROWS = 4;  // whose loads are under way at once
    __shared__ Pack<double, 2> totals[N][THREADS];
    Part p = part_of(v, N);
    int thread = threadIdx.y * blockDim.x + threadIdx.x;
    Column<R> columns[N];
    Sum<R> gradients[N], products[N];
    index_t first = p.outer * v.rows, now = -1;  // the statistics that the columns hold
    bool inside = p.column < v.columns;
    if (inside) {
#pragma unroll
        for (int n = 0; n < N; n++) columns[n].begin(v, weight, bias, p.column + n);
        for (index_t row = p.row; row < p.end; row += ROWS * blockDim.y) {
            Pack<T, N> xs[ROWS], gs[ROWS];
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                index_t r = row + i * (index_t)blockDim.y;
                if (r >= p.end) break;
                xs[i] = load_pack<T, N>(x + (first + r) * v.columns + p.column);
                gs[i] = load_pack<T, N>(gy + (first + r) * v.columns + p.column);
            }
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                index_t r = row + i * (index_t)blockDim.y;
                if (r >= p.end) break;
                index_t m = statistics_of(v, first + r);
#pragma unroll
                for (int n = 0; n < N; n++) {
                    Column<R>& c = columns[n];
                    if (m != now) c.enter(v, mean, rstd, m);
                    R g = widen(gs[i].at[n]), number = widen(xs[i].at[n]);
                    if (rectify) g = passed<T>(g, affine(number, c.mean, c.scale, c.bias));
                    add_terms(gradients[n], products[n], g, number, c.mean, c.rstd);
                }
                now = m;
            }
        }
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
        totals[n][thread] = {products[n].value(), gradients[n].value()};
        if (!inside || (products[n].finite() && gradients[n].finite())) continue;
        double product = 0, gradient = 0;
        Column<R> c = columns[n];
        for (index_t r = first + p.row; r < first + p.end; r += blockDim.y) {
            c.enter(v, mean, rstd, statistics_of(v, r));
            R g = widen(gy[r * v.columns + p.column + n]), number = widen(x[r * v.columns + p.column + n]);
            if (rectify) g = passed<T>(g, affine(number, c.mean, c.scale, c.bias));
            product += (double)g * (((double)number - (double)c.mean) * (double)c.rstd);
            gradient += (double)g;
        }
        totals[n][thread] = {product, gradient};
    }
    for (int half = blockDim.y / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
            for (int n = 0; n < N; n++)
                for (int k = 0; k < 2; k++) totals[n][thread].at[k] += totals[n][thread + half * blockDim.x].at[k];
    }
    if (threadIdx.y || !inside) return;
    double* to = partial + ((p.outer * v.slices + p.slice) * v.columns + p.column) * 2;
    for (int n = 0; n < N; n++) store_pack(to + 2 * n, totals[n][thread]);
}

// Sum of g * xhat and of g, g = gy * weight, for each part of each row (rows of statistics, of length columns): a warp each.
template <class T, int N>
__global__ void sums_rows(const T* gy, const T* x, const real_t<T>* mean, const real_t<T>* rstd, const real_t<T>* weight,
                          const real_t<T>* bias, double* partial, int rectify, View v) {
    typedef real_t<T> R;
    index_t number = thread_number() / 32, r = divide(number, v.slices), part = number - r * v.slices;
    if (r >= v.rows) return;
    index_t offset = (r - divide(r, v.b) * v.b) * v.length, end = min(v.length, (part + 1) * v.per_slice);
    R mu = mean[r], rs = rstd[r];
    auto each = [&](auto take) {
        for (index_t i = part * v.per_slice + (threadIdx.x & 31) * N; i < end; i += 32 * N) {
            Pack<T, N> xs = load_pack<T, N>(x + r * v.length + i), gs = load_pack<T, N>(gy + r * v.length + i);
#pragma unroll
            for (int n = 0; n < N; n++) {
                R value = widen(xs.at[n]), g = widen(gs.at[n]), w = weight ? weight[offset + i + n] : R(1);
                if (rectify) g = passed<T>(g, affine(value, mu, rs * w, bias ? bias[offset + i + n] : R(0)));
                take(g, w, value);
            }
        }
    };
    Sum<R> gradients, products;
    each([&](R g, R w, R value) {
        gradients.add(g * w);
        products.add(g * w * ((value - mu) * rs));
    });
    double gradient = gradients.value(), product = products.value();
    if (!gradients.finite() || !products.finite()) {
        gradient = product = 0;
        each([&](R g, R w, R value) {
            gradient += (double)g * (double)w;
            product += (double)g * (double)w * (((double)value - (double)mu) * (double)rs);
        });
    }
    for (int step = 16; step; step /= 2) {
        gradient += __shfl_xor_sync(0xffffffffu, gradient, step);
        product += __shfl_xor_sync(0xffffffffu, product, step);
    }
    if (threadIdx.x % 32 == 0) store_pack(partial + number * 2, Pack<double, 2>{product, gradient});
}

// The gradients of weight and bias: the sums of each column over all ``rows`` of partial. A block takes blockDim.x columns.
template <class S>
__global__ void sums_gradients(const double* partial, S* gweight, S* gbias, index_t rows, index_t columns, const S* weight,
                               S* projection, S* average, double count) {
    __shared__ Pack<double, 2> totals[1024];
    index_t column = (index_t)blockIdx.x * blockDim.x + threadIdx.x;
    int thread = threadIdx.y * blockDim.x + threadIdx.x;
    double product = 0, gradient = 0;
    if (column < columns)
#pragma unroll 4
        for (index_t row = threadIdx.y; row < rows; row += blockDim.y) {
            Pack<double, 2> values = load_pack<double, 2>(partial + (row * columns + column) * 2);
            product += values.at[0];
            gradient += values.at[1];
        }
    totals[thread] = {product, gradient};
    for (int half = blockDim.y / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
            for (int k = 0; k < 2; k++) totals[thread].at[k] += totals[thread + half * blockDim.x].at[k];
    }
    if (threadIdx.y || column >= columns) return;
    gweight[column] = narrow<S>(totals[thread].at[0]);
    gbias[column] = narrow<S>(totals[thread].at[1]);
    if (!projection) return;
    double w = weight ? (double)weight[column] : 1;
    projection[column] = narrow<S>(w * totals[thread].at[0] / count);
    average[column] = narrow<S>(w * totals[thread].at[1] / count);
}

// The averages of g * xhat and of g for each of the statistics, over ``count`` numbers: one block for each.
template <class S>
__global__ void sums_averages(const double* partial, const S* weight, S* projection, S* average, double count, View v) {
    __shared__ Pack<double, 2> totals[THREADS];
    index_t outer = blockIdx.x / (unsigned)v.b, statistic = blockIdx.x - outer * v.b;
    double product = 0, gradient = 0;
    for (index_t i = threadIdx.x; i < v.slices * v.length; i += blockDim.x) {
        index_t slice = v.length == 1 ? i : divide(i, v.length), column = statistic * v.length + i - slice * v.length;
        Pack<double, 2> values = load_pack<double, 2>(partial + ((outer * v.slices + slice) * v.columns + column) * 2);
        double w = weight ? (double)weight[column] : 1;
        product = fma(w, values.at[0], product);
        gradient = fma(w, values.at[1], gradient);
    }
    totals[threadIdx.x] = {product, gradient};
    for (int half = blockDim.x / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            for (int k = 0; k < 2; k++) totals[threadIdx.x].at[k] += totals[threadIdx.x + half].at[k];
    }
    if (threadIdx.x) return;
    projection[blockIdx.x] = narrow<S>(totals[0].at[0] / count);
    average[blockIdx.x] = narrow<S>(totals[0].at[1] / count);
}
