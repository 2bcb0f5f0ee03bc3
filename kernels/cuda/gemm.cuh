// Matrix products of one block: BM x BN numbers of the result by 256 threads, from tiles of the operands in shared memory.
//
// K is walked in steps of 64 bytes. The tile of an operand lies in shared memory either along K ([row][k], where K is contiguous
// in global memory too: images and filters) or across ([k][row]: both operands of a weight gradient). Rows are padded so that
// neither the copies nor the reads of a warp meet in one bank.
#pragma once
#include "common.cuh"

const int BLOCK = 256;
const int WARPS = BLOCK / 32;

// ---- how numbers are multiplied ---------------------------------------------------------------------------------------------

// On the ordinary units, every product and sum in real_t<T>.
template <class Number>
struct Exact {
    typedef Number T;
    static const bool TENSOR = false;
};

struct Float16 {
    typedef half_t T;
    static const bool TENSOR = true;
    static __device__ __forceinline__ unsigned rounded(unsigned word) { return word; }
    static __device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
        multiply_half(d, a, b);
    }
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
// float32 whose factors are rounded to 10 bits of fraction.
struct Tf32 {
    typedef float T;
    static const bool TENSOR = true;
    static __device__ __forceinline__ unsigned rounded(unsigned word) { return to_tf32(word); }
    static __device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
        multiply_tf32(d, a, b);
    }
};

struct Bfloat16 {
    typedef bfloat16_t T;
    static const bool TENSOR = true;
    static __device__ __forceinline__ unsigned rounded(unsigned word) { return word; }
    static __device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
        multiply_bfloat16(d, a, b);
    }
};
#endif

// ---- tiles ------------------------------------------------------------------------------------------------------------------

enum Layout { ALONG_K, ACROSS };

template <class Math, int ROWS, Layout LAYOUT>
struct Operand {
    typedef typename Math::T T;
    static const int BK = 64 / sizeof(T);
    static const int VECTOR = 16 / sizeof(T);
    static const int PAD = LAYOUT == ACROSS && Math::TENSOR && sizeof(T) == 4 ? 8 : VECTOR;
    static const int PITCH = (LAYOUT == ALONG_K ? BK : ROWS) + PAD;
    static const int SIZE = PITCH * (LAYOUT == ALONG_K ? ROWS : BK);

    // The place of an element in the tile.
    static __device__ __forceinline__ int at(int row, int k) { return LAYOUT == ALONG_K ? row * PITCH + k : k * PITCH + row; }
};

// A tile's numbers, as words for the tensor cores: four for 16 rows of the left operand, four for two times 8 of the right one.
template <class Math, int ROWS, Layout LAYOUT, bool LEFT>
__device__ __forceinline__ void fragment(unsigned (&word)[4], const typename Math::T* tile, int row, int k) {
    typedef Operand<Math, ROWS, LAYOUT> O;
    int lane = threadIdx.x & 31, matrix = lane >> 3, line = lane & 7;
    if (LAYOUT == ALONG_K) {
        int half = LEFT ? matrix >> 1 : matrix & 1, rows = LEFT ? matrix & 1 : matrix >> 1;
        load_matrices(word, tile + O::at(row + 8 * rows + line, k + half * O::VECTOR));
    } else if (sizeof(typename Math::T) == 2) {
        int half = LEFT ? matrix >> 1 : matrix & 1, rows = LEFT ? matrix & 1 : matrix >> 1;
        load_matrices_transposed(word, tile + O::at(row + 8 * rows, k + 8 * half + line));
    } else {
        int g = lane >> 2, t = lane & 3;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int half = LEFT ? i >> 1 : i & 1, rows = LEFT ? i & 1 : i >> 1;
            word[i] = reinterpret_cast<const unsigned*>(tile)[O::at(row + 8 * rows + g, k + 4 * half + t)];
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) word[i] = Math::rounded(word[i]);
}

// The sums of a block: WARPS_M x (WARPS / WARPS_M) warps share the tile; without tensor cores 16 x 16 threads do.
template <class Math, int BM, int BN, int WARPS_M, Layout LEFT, Layout RIGHT, bool TENSOR = Math::TENSOR>
struct Product {
    typedef typename Math::T T;
    typedef Operand<Math, BM, LEFT> A;
    typedef Operand<Math, BN, RIGHT> B;
    static const int WM = BM / WARPS_M, WN = BN / (WARPS / WARPS_M), MI = WM / 16, NI = WN / 8;
    float sum[MI][NI][4];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < MI; i++)
#pragma unroll
            for (int j = 0; j < NI; j++)
#pragma unroll
                for (int k = 0; k < 4; k++) sum[i][j][k] = 0;
    }

    static __device__ __forceinline__ int row() { return threadIdx.x / 32 % WARPS_M * WM; }
    static __device__ __forceinline__ int column() { return threadIdx.x / 32 / WARPS_M * WN; }

    __device__ __forceinline__ void step(const T* a, const T* b) {
        const int WORDS = 8 * 4 / sizeof(T);  // numbers along K of one instruction
#pragma unroll
        for (int k = 0; k < A::BK; k += WORDS) {
            unsigned left[MI][4];
#pragma unroll
            for (int i = 0; i < MI; i++) fragment<Math, BM, LEFT, true>(left[i], a, row() + 16 * i, k);
#pragma unroll
            for (int j = 0; j < NI; j += 2) {
                unsigned right[4];
                fragment<Math, BN, RIGHT, false>(right, b, column() + 8 * j, k);
                unsigned first[2] = {right[0], right[1]}, second[2] = {right[2], right[3]};
#pragma unroll
                for (int i = 0; i < MI; i++) {
                    Math::multiply(sum[i][j], left[i], first);
                    Math::multiply(sum[i][j + 1], left[i], second);
                }
            }
        }
    }

    // Calls f(row, column, values) for neighbouring columns.
    template <class F>
    __device__ __forceinline__ void visit(F f) const {
        int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
        for (int i = 0; i < MI; i++)
#pragma unroll
            for (int j = 0; j < NI; j++) {
                float upper[2] = {sum[i][j][0], sum[i][j][1]}, lower[2] = {sum[i][j][2], sum[i][j][3]};
                f(row() + 16 * i + g, column() + 8 * j + 2 * t, upper);
                f(row() + 16 * i + g + 8, column() + 8 * j + 2 * t, lower);
            }
    }
};

template <class Math, int BM, int BN, int WARPS_M, Layout LEFT, Layout RIGHT>
struct Product<Math, BM, BN, WARPS_M, LEFT, RIGHT, false> {
    typedef typename Math::T T;
    typedef real_t<T> R;
    typedef Operand<Math, BM, LEFT> A;
    typedef Operand<Math, BN, RIGHT> B;
    static const int MI = BM / 16, NI = BN / 16;
    R sum[MI][NI];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < MI; i++)
#pragma unroll
            for (int j = 0; j < NI; j++) sum[i][j] = 0;
    }

    static __device__ __forceinline__ int row() { return threadIdx.x / 16; }
    static __device__ __forceinline__ int column() { return threadIdx.x % 16; }

    __device__ __forceinline__ void step(const T* a, const T* b) {
#pragma unroll 4
        for (int k = 0; k < A::BK; k++) {
            R left[MI];
#pragma unroll
            for (int i = 0; i < MI; i++) left[i] = widen(a[A::at(row() + 16 * i, k)]);
#pragma unroll
            for (int j = 0; j < NI; j++) {
                R right = widen(b[B::at(column() + 16 * j, k)]);
#pragma unroll
                for (int i = 0; i < MI; i++) sum[i][j] = fma(left[i], right, sum[i][j]);
            }
        }
    }

    template <class F>
    __device__ __forceinline__ void visit(F f) const {
#pragma unroll
        for (int i = 0; i < MI; i++)
#pragma unroll
            for (int j = 0; j < NI; j++) {
                R value[1] = {sum[i][j]};
                f(row() + 16 * i, column() + 16 * j, value);
            }
    }
};

// ---- the walk along K ---------------------------------------------------------------------------------------------------------

const int STAGES = 3;  // tiles in shared memory: two are on their way while the third is multiplied

// Calls load(step) for every step, two steps ahead of multiply(step); tile number step % STAGES is the step's own.
template <class Load, class Multiply>
__device__ __forceinline__ void walk(int steps, Load load, Multiply multiply) {
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) load(s);
        copies_close();
    }
    for (int s = 0; s < steps; s++) {
        copies_wait<STAGES - 2>();
        __syncthreads();  // tile s has arrived for all threads, and all have done with tile s - 1, whose place is filled again
        if (s + STAGES - 1 < steps) load(s + STAGES - 1);
        copies_close();
        multiply(s);
    }
    copies_wait<0>();
}
