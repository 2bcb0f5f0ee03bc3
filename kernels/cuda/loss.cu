// Softmax and cross-entropy in one. See kernels/reference/loss.py.
//
// A row is the work of TEAM neighbouring threads, whose sums are added in pairs. All arithmetic is double.
#include "common.cuh"

// What the threads of a team make of their numbers together, known to each of them. ``parts``: of every warp of a large team.
template <int TEAM, class F>
__device__ __forceinline__ double together(double x, double (&parts)[32], F combine) {
#pragma unroll
    for (int distance = (TEAM < 32 ? TEAM : 32) / 2; distance; distance /= 2)
        x = combine(x, __shfl_xor_sync(0xffffffffu, x, distance));
    if (TEAM <= 32) return x;
    __syncthreads();  // parts may still be read
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = parts[0];
    for (int warp = 1; warp < TEAM / 32; warp++) x = combine(x, parts[warp]);
    return x;
}

template <int TEAM>
__device__ __forceinline__ double sum_of_all(double x, double (&parts)[32]) {
    return together<TEAM>(x, parts, [](double a, double b) { return a + b; });
}

template <class T>
__device__ __forceinline__ double weight_of(const T* weight, int k) {
    return weight ? (double)widen(weight[k]) : 1.0;
}

__device__ __forceinline__ double not_a_number() { return (double)__uint_as_float(0x7fc00000u); }

struct Options {
    int rows, classes;
};

// losses (M,) and logsumexp (M,) of logits (M, K). A target that is no class has the loss NaN.
template <class T, int TEAM>
__global__ void cross_entropy(const T* logits, const index_t* target, const T* weight, T* losses, double* logsumexp, Options o,
                              index_t ignored, double smoothing) {
    __shared__ double parts[32];
    index_t row = thread_number() / TEAM;
    int lane = threadIdx.x % TEAM, count = row < o.rows ? o.classes : 0;  // threads without a row take part in the sums
    const T* x = logits + row * o.classes;
    double largest = -(double)__uint_as_float(0x7f800000u);
    for (int k = lane; k < count; k += TEAM) largest = fmax(largest, (double)widen(x[k]));
    largest = together<TEAM>(largest, parts, [](double a, double b) { return fmax(a, b); });
    double total = 0;  // NaN where a logit is NaN, or the largest infinite
    for (int k = lane; k < count; k += TEAM) total += exp((double)widen(x[k]) - largest);
    total = sum_of_all<TEAM>(total, parts);
    double log_total = o.classes ? largest + log(total) : 0.0;
    double spread = 0;
    if (smoothing) {
        for (int k = lane; k < count; k += TEAM) spread += weight_of(weight, k) * ((double)widen(x[k]) - log_total);
        spread = sum_of_all<TEAM>(spread, parts);
    }
    if (lane || row >= o.rows) return;
    logsumexp[row] = log_total;
    index_t k = target[row];
    double loss = 0;
    if (k != ignored) {
        if (k < 0 || k >= o.classes) loss = not_a_number();
        else loss = -(1.0 - smoothing) * weight_of(weight, k) * ((double)widen(x[k]) - log_total);
        if (smoothing) loss -= smoothing / o.classes * spread;
    }
    losses[row] = narrow<T>(loss);
}

// glogits (M, K). The row of a target that is no class is NaN.
template <class T, int TEAM>
__global__ void cross_entropy_backward(const T* glosses, const T* logits, const double* logsumexp, const index_t* target,
                                       const T* weight, T* glogits, Options o, index_t ignored, double smoothing) {
    __shared__ double parts[32];
    index_t row = thread_number() / TEAM;
    int lane = threadIdx.x % TEAM, count = row < o.rows ? o.classes : 0;
    double sum = o.classes;  // of the weights
    if (smoothing && weight) {
        double mine = 0;
        for (int k = lane; k < o.classes; k += TEAM) mine += widen(weight[k]);
        sum = sum_of_all<TEAM>(mine, parts);
    }
    if (!count) return;
    const T* x = logits + row * o.classes;
    T* result = glogits + row * o.classes;
    index_t j = target[row];
    double g = widen(glosses[row]), log_total = logsumexp[row], true_weight = not_a_number(), each = smoothing / o.classes;
    if (j >= 0 && j < o.classes) true_weight = (1.0 - smoothing) * weight_of(weight, j);
    for (int k = lane; k < count; k += TEAM) {
        double p = exp((double)widen(x[k]) - log_total), d = true_weight * p - (k == j ? true_weight : 0.0);
        if (smoothing) d += each * (sum * p - weight_of(weight, k));
        result[k] = j == ignored ? T() : narrow<T>(g * d);
    }
}

// wrong[0] becomes 1 if a label is neither a class nor ``ignored``.
__global__ void find_wrong_label(const index_t* target, int* wrong, index_t size, index_t classes, index_t ignored) {
    index_t step = (index_t)gridDim.x * blockDim.x;
    bool found = false;
    for (index_t i = thread_number(); i < size; i += step) {
        index_t label = target[i];
        found |= (label < 0 || label >= classes) && label != ignored;
    }
    if (found) wrong[0] = 1;  // whoever writes, writes the same
}
