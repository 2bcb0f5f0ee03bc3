// What batch normalization keeps of its statistics. See kernels/reference/statistics.py. One launch for all of it: these arrays
// are short, and a launch takes longer than they do.
#include "common.cuh"

__device__ __forceinline__ float root(float x) { return sqrtf(x); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }

// rstd for ``count`` variances; copies of the mean (count), and of weight and bias (parameters), where a place for them is given.
template <class R>
__global__ void normalization_constants(const R* mean, const R* var, const R* weight, const R* bias, R* own_mean, R* rstd,
                                        R* own_weight, R* own_bias, R eps, index_t count, index_t parameters) {
    index_t i = thread_number();
    if (i < count) {
        rstd[i] = 1 / root(var[i] + eps);
        if (own_mean) own_mean[i] = mean[i];
    }
    if (i < parameters) {
        if (own_weight) own_weight[i] = weight[i];
        if (own_bias) own_bias[i] = bias[i];
    }
}

template <class R>
__global__ void update_running(R* running_mean, R* running_var, const R* mean, const R* var, index_t* counter, double momentum,
                               double correction, int count) {
    int i = thread_number();
    if (counter && i == 0) ++*counter;
    if (i >= count) return;
    if (running_mean) running_mean[i] = (R)((1 - momentum) * running_mean[i] + momentum * mean[i]);
    if (running_var) running_var[i] = (R)((1 - momentum) * running_var[i] + momentum * correction * var[i]);
}
