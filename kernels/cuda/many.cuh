// Many arrays in one launch: every block has one piece of one of them.
#pragma once
#include "common.cuh"

const int THREADS = 256, PIECE = 2048;  // numbers of a block

// The array of this block, of ``count``; ``end[i]``: the blocks of array i and of those before it.
__device__ __forceinline__ int array_of_block(const int* end, int count) {
    int low = 0, high = count - 1;  // the first array whose end lies behind this block
    while (low < high) {
        int middle = (low + high) / 2;
        if (end[middle] > (int)blockIdx.x) high = middle;
        else low = middle + 1;
    }
    return low;
}

// Where this block begins in its array.
__device__ __forceinline__ index_t begin_of_block(const int* end, int array) {
    return (index_t)(blockIdx.x - (array ? end[array - 1] : 0)) * PIECE;
}
