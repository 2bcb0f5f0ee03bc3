// The update of stochastic gradient descent, of many arrays at once. See kernels/reference/optimizer.py.
#include "many.cuh"

const int LIMIT = 112;  // arrays of a launch: its values may have 4096 bytes

enum { PLAIN, FIRST, NEXT };  // without a velocity; its first value; any later one

struct Table {
    long long parameter[LIMIT], gradient[LIMIT], velocity[LIMIT];  // addresses
    long long what[LIMIT];  // 8 * numbers + 4 if all three begin at 16 bytes + PLAIN, FIRST or NEXT
    int end[LIMIT];         // the blocks of this array and of those before it
};

template <class R>
struct Factors {
    R sign, decay, damping, momentum, rate;
};

// Rounded as on the processor (kernels/cpu/optimizer.py).
template <class T, class R>
__device__ __forceinline__ void update(T& p, T g, T& v, int mode, int nesterov, const Factors<R>& f) {
    R x = widen(p), direction = f.sign < 0 ? -widen(g) : widen(g);
    if (f.decay != 0) direction = fma(f.decay, x, direction);
    if (mode != PLAIN) {
        R velocity = direction;
        if (mode == NEXT) {
            if (f.damping != 0) velocity = fma(f.damping, direction, direction);
            velocity = fma(f.momentum, R(widen(v)), velocity);
        }
        v = narrow<T>(velocity);
        direction = nesterov ? fma(f.momentum, velocity, direction) : velocity;
    }
    p = narrow<T>(fma(f.rate, direction, x));
}

// lr: the learning rate in the card's memory, which changes while a captured launch stays; null where f.rate has it.
// fault: of a captured step; where it is not 0, something was wrong before, and nothing changes.
template <class T, int N>
__global__ void __launch_bounds__(THREADS) sgd(Table table, int count, int nesterov, const double* lr, const int* fault,
                                                real_t<T> sign,
                                                real_t<T> decay, real_t<T> damping, real_t<T> momentum, real_t<T> rate) {
    typedef real_t<T> R;
    if (fault && *fault) return;
    Factors<R> f = {sign, decay, damping, momentum, lr ? (R)-*lr : rate};
    int array = array_of_block(table.end, count);
    T *p = (T*)table.parameter[array], *v = (T*)table.velocity[array];
    const T* g = (const T*)table.gradient[array];
    index_t size = table.what[array] >> 3, begin = begin_of_block(table.end, array);
    int mode = (int)(table.what[array] & 3);
    index_t end = min(size, begin + PIECE);
    bool aligned = table.what[array] & 4;
    for (index_t i = begin + threadIdx.x * N; i < end; i += THREADS * N) {
        if (aligned && i + N <= end) {
            Pack<T, N> ps = load_pack<T, N>(p + i), gs = load_pack<T, N>(g + i), vs = {};
            if (mode == NEXT) vs = load_pack<T, N>(v + i);
#pragma unroll
            for (int n = 0; n < N; n++) update(ps.at[n], gs.at[n], vs.at[n], mode, nesterov, f);
            store_pack(p + i, ps);
            if (mode != PLAIN) store_pack(v + i, vs);
            continue;
        }
        for (index_t j = i; j < min(end, i + N); j++) {
            T velocity = mode == NEXT ? v[j] : T();
            update(p[j], g[j], velocity, mode, nesterov, f);
            if (mode != PLAIN) v[j] = velocity;
        }
    }
}
