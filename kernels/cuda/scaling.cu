// Many arrays multiplied by a number, with a look whether they are finite. See kernels/reference/scaling.py.
#include "many.cuh"

const int LIMIT = 192;  // arrays of a launch: its values may have 4096 bytes

struct Table {
    long long array[LIMIT];  // addresses
    long long what[LIMIT];   // 2 * numbers + 1 if it begins at 16 bytes
    int end[LIMIT];          // the blocks of this array and of those before it
};

// The product, as it is stored; ``bad`` if it is infinite or NaN.
template <class T>
__device__ __forceinline__ void scaled(T& x, real_t<T> factor, bool& bad) {
    x = narrow<T>(widen(x) * factor);
    real_t<T> y = widen(x);
    bad |= y - y != 0;
}

template <class T, int N>
__global__ void __launch_bounds__(THREADS) scale_all(Table table, int count, real_t<T> factor, int* found) {
    int array = array_of_block(table.end, count);
    T* x = (T*)table.array[array];
    index_t size = table.what[array] >> 1, begin = begin_of_block(table.end, array);
    index_t end = min(size, begin + PIECE);
    bool aligned = table.what[array] & 1, bad = false;
#pragma unroll 1
    for (index_t i = begin + threadIdx.x * N; i < end; i += THREADS * N) {
        if (aligned && i + N <= end) {
            Pack<T, N> xs = load_pack<T, N>(x + i);
#pragma unroll
            for (int n = 0; n < N; n++) scaled(xs.at[n], factor, bad);
            store_pack(x + i, xs);
            continue;
        }
#pragma unroll 1
        for (index_t j = i; j < min(end, i + N); j++) scaled(x[j], factor, bad);
    }
    if (bad) *found = 1;  // whoever writes writes the same
}
