// Means and variances. See kernels/reference/normalization.py.
//
// Numbers are taken eight at a time: their sum without rounding errors and the squares of their distances from their own mean, in
// float; what is made of several eights is double. So neither a large mean nor a long sum costs digits. Where eight numbers are
// beyond the range of float, or not finite, they are taken in double.
#include "norm.cuh"

const int CHUNK = 8, THREADS = 256;

// The count, the mean and the sum of the squared deviations of some numbers (Chan, Golub and LeVeque 1979).
struct State {
    double count, mean, squares;
};

__device__ __forceinline__ State united(const State& x, const State& y) {
    if (y.count == 0) return x;
    if (x.count == 0) return y;
    double distance = y.mean - x.mean, share = y.count / (x.count + y.count);
    State z;
    z.count = x.count + y.count;
    z.mean = isfinite(distance) ? x.mean + distance * share : x.mean * (1 - share) + y.mean * share;  // infinite, perhaps not NaN
    z.squares = x.squares + y.squares + distance * distance * x.count * share;
    return z;
}

// The numbers of one thread: sums of distances, and of their squares, from a number that is finite and one of the first or near.
template <class R>
struct Moments {
    R shift = 0;
    double sum = 0, squares = 0;

    __device__ __forceinline__ void begin(R number) { shift = isfinite(number) ? number : R(0); }

    __device__ __forceinline__ void take_wide(const R (&x)[CHUNK], int count) {
#pragma unroll
        for (int i = 0; i < CHUNK; i++)
            if (i < count) {
                double distance = (double)x[i] - (double)shift;
                sum += distance;
                squares = fma(distance, distance, squares);
            }
    }

    __device__ __forceinline__ State state(double count, double inverse) const {
        double rest = squares - sum * sum * inverse;
        return {count, shift + sum * inverse, rest < 0 ? 0 : rest};
    }
};

// inverse: of count.
__device__ __forceinline__ void take(Moments<float>& m, const float (&x)[CHUNK], int count, double inverse, bool first) {
    Sum<float> total;
#pragma unroll
    for (int i = 0; i < CHUNK; i++)
        if (i < count) total.add(x[i]);
    float centre = count == CHUNK ? total.high / CHUNK : x[0], squares = 0;
#pragma unroll
    for (int i = 0; i < CHUNK; i++)
        if (i < count) squares = fmaf(x[i] - centre, x[i] - centre, squares);
    float rest = fmaf(-(float)count, centre, total.high) + total.low;  // of the sum: the centre is not quite the mean
    squares -= rest * rest * (float)inverse;
    if (first) m.begin(centre);
    if (!isfinite(squares)) {
        m.take_wide(x, count);
        return;
    }
    double far = fma(-(double)count, (double)m.shift, total.value());
    m.sum += far;
    m.squares += squares + far * far * inverse;
}

__device__ __forceinline__ void take(Moments<double>& m, const double (&x)[CHUNK], int count, double inverse, bool first) {
    if (first) m.begin(x[0]);
    m.take_wide(x, count);
}

// ---- by columns: many rows -------------------------------------------------------------------------------------------------

// partial: mean and sum of squares for each (outer, slice, column).
template <class T, int N>
__global__ void __launch_bounds__(THREADS) moments_columns(const T* x, double* partial, View v) {
    typedef real_t<T> R;
    __shared__ State states[N][THREADS];
    Part p = part_of(v, N);
    Moments<R> moments[N];
    index_t count = 0;
    const T* from = x + p.outer * v.rows * v.columns + p.column;
    if (p.column < v.columns)
        for (index_t row = p.row; row < p.end; row += CHUNK * blockDim.y) {
            Pack<T, N> packs[CHUNK];
            index_t left = p.end - row;
            int some = left > (CHUNK - 1) * (int)blockDim.y ? CHUNK : ((int)left + (int)blockDim.y - 1) / (int)blockDim.y;
            double inverse = some == CHUNK ? 1.0 / CHUNK : 1.0 / some;
#pragma unroll
            for (int i = 0; i < CHUNK; i++)
                if (i < some) packs[i] = load_pack<T, N>(from + (row + i * (index_t)blockDim.y) * v.columns);
#pragma unroll
            for (int n = 0; n < N; n++) {
                R numbers[CHUNK];
#pragma unroll
                for (int i = 0; i < CHUNK; i++) numbers[i] = i < some ? widen(packs[i].at[n]) : R(0);
                take(moments[n], numbers, some, inverse, count == 0);
            }
            count += some;
        }

    int thread = threadIdx.y * blockDim.x + threadIdx.x;
    double all = (double)count, inverse = count ? 1 / all : 0;
#pragma unroll
    for (int n = 0; n < N; n++) states[n][thread] = moments[n].state(all, inverse);
    for (int half = blockDim.y / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
            for (int n = 0; n < N; n++) states[n][thread] = united(states[n][thread], states[n][thread + half * blockDim.x]);
    }
    if (threadIdx.y || p.column >= v.columns) return;
    double* to = partial + ((p.outer * v.slices + p.slice) * v.columns + p.column) * 2;
    for (int n = 0; n < N; n++) store_pack(to + 2 * n, Pack<double, 2>{states[n][thread].mean, states[n][thread].squares});
}

template <class S>
__device__ __forceinline__ void write_moments(S* mean, S* var, index_t at, double average, double variance) {
    mean[at] = narrow<S>(average);
    var[at] = narrow<S>(isfinite(average) && !isfinite(variance) ? (double)__uint_as_float(0x7f800000u) : variance);
}

// One block for each of the statistics, over the slices and the columns that share it.
template <class S>
__global__ void moments_combine(const double* partial, S* mean, S* var, View v) {
    __shared__ State states[THREADS];
    index_t outer = blockIdx.x / (unsigned)v.b, statistic = blockIdx.x - outer * v.b;
    State mine = {0, 0, 0};
    for (index_t i = threadIdx.x; i < v.slices * v.length; i += blockDim.x) {
        index_t slice = v.length == 1 ? i : divide(i, v.length), column = statistic * v.length + i - slice * v.length;
        Pack<double, 2> values = load_pack<double, 2>(partial + ((outer * v.slices + slice) * v.columns + column) * 2);
        double count = (double)min(v.per_slice, v.rows - slice * v.per_slice);
        mine = united(mine, {count, values.at[0], values.at[1]});
    }
    states[threadIdx.x] = mine;
    for (int half = blockDim.x / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) states[threadIdx.x] = united(states[threadIdx.x], states[threadIdx.x + half]);
    }
    if (threadIdx.x == 0) write_moments(mean, var, blockIdx.x, states[0].mean, states[0].squares / states[0].count);
}

// ---- by rows: many short rows, one warp for each ----------------------------------------------------------------------------

__device__ __forceinline__ double warp_sum(double x) {
    for (int step = 16; step; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

// Calls f(number) for the numbers of the row that are this lane's.
template <int N, class T, class F>
__device__ __forceinline__ void each(const T* row, index_t length, F f) {
    for (index_t i = (threadIdx.x & 31) * N; i < length; i += 32 * N) {
        Pack<T, N> pack = load_pack<T, N>(row + i);
#pragma unroll
        for (int n = 0; n < N; n++) f(widen(pack.at[n]));
    }
}

template <class T, int N>
__global__ void moments_rows(const T* x, real_t<T>* mean, real_t<T>* var, index_t rows, index_t length) {
    typedef real_t<T> R;
    index_t r = thread_number() / 32;
    if (r >= rows) return;
    const T* row = x + r * length;
    Sum<R> total;
    each<N>(row, length, [&](R number) { total.add(number); });
    double sum = total.value();
    if (!total.finite()) {
        sum = 0;
        each<N>(row, length, [&](R number) { sum += (double)number; });
    }
    double average = warp_sum(sum) / length;
    R centre = narrow<R>(average);
    Sum<R> squares;
    each<N>(row, length, [&](R number) { squares.add((number - centre) * (number - centre)); });
    double sum_of_squares = squares.value(), off = average - (double)centre;
    if (!squares.finite()) {  // off is tiny, or nothing is finite
        sum_of_squares = 0;
        each<N>(row, length, [&](R number) {
            double distance = (double)number - (double)centre;
            sum_of_squares += distance * distance;
        });
    }
    double variance = warp_sum(sum_of_squares) / length - off * off;
    if (threadIdx.x % 32 == 0) write_moments(mean, var, r, average, variance < 0 ? 0 : variance);
}
