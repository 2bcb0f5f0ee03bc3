// Sums of rows that belong together. See kernels/reference/gathering.py.
#include "common.cuh"

__device__ __forceinline__ index_t widen(index_t x) { return x; }

template <>
struct Narrow<index_t> {
    static __device__ __forceinline__ index_t of(index_t x) { return x; }
};

template <class T>
struct Wide {
    typedef double type;
};
template <>
struct Wide<index_t> {
    typedef index_t type;
};

// sums (count, columns) of rows (M, columns): ``sorted`` positions, and which row has each. A thread adds up one element.
template <class T>
__global__ void sums_by_position(const T* rows, const index_t* sorted, const index_t* order, T* sums, index_t m, index_t count,
                                 index_t columns) {
    index_t at = thread_number();
    if (at >= count * columns) return;
    index_t position = at / columns, column = at - position * columns, low = 0, high = m;
    while (low < high) {  // the first place that is not before the position
        index_t middle = (low + high) / 2;
        if (sorted[middle] < position) low = middle + 1;
        else high = middle;
    }
    typename Wide<T>::type sum = 0;
    for (; low < m && sorted[low] == position; low++) sum += widen(rows[order[low] * columns + column]);
    sums[at] = narrow<T>(sum);
}
