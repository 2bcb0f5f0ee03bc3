// What CUDA C has no words for: the instructions of the card, one function each, and nothing else. Everything below is replaced
// where the kernels run without a card (tests/cuda/host.h), so a kernel itself never says asm.
#pragma once
#ifndef MINIGRAD_HOST

// ---- 16-bit numbers: stored in two bytes, computed with in float ---------------------------------------------------------

struct half_t {
    unsigned short bits;
};

struct bfloat16_t {
    unsigned short bits;
};

__device__ __forceinline__ float widen(half_t x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}

__device__ __forceinline__ float widen(bfloat16_t x) { return __uint_as_float((unsigned)x.bits << 16); }

__device__ __forceinline__ half_t to_half(float x) {
    half_t y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

__device__ __forceinline__ bfloat16_t to_bfloat16(float x) {
    bfloat16_t y;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
    unsigned u = __float_as_uint(x);  // to the nearest, ties to even; NaN stays NaN
    y.bits = x != x ? 0x7fff : (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
#endif
    return y;
}

// ---- copies from global into shared memory that run while the threads compute --------------------------------------------

// BYTES (2, 4, 8 or 16; both addresses aligned to them), or as many zeros where ``inside`` is false. Two are copied at once.
template <int BYTES>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool inside) {
    if (BYTES == 2) {
        *(unsigned short*)shared = inside ? *(const unsigned short*)global : (unsigned short)0;
        return;
    }
#if __CUDA_ARCH__ >= 800
    unsigned to = (unsigned)__cvta_generic_to_shared(shared);
    int count = inside ? BYTES : 0;
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(count) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;"
                     ::"r"(to), "l"(global), "r"(count), "n"(BYTES < 4 ? 4 : BYTES) : "memory");
#else
    unsigned* target = (unsigned*)shared;
#pragma unroll
    for (int i = 0; i < BYTES / 4; i++) target[i] = inside ? ((const unsigned*)global)[i] : 0u;
#endif
}

// Closes the group of copies that this thread began since the last group.
__device__ __forceinline__ void copies_close() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most PENDING of this thread's groups are under way.
template <int PENDING>
__device__ __forceinline__ void copies_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// ---- the tensor cores ----------------------------------------------------------------------------------------------------
//
// A warp multiplies a 16 x K by a K x 8 matrix and adds a 16 x 8 one. Lane 4 g + t (g = 0 ... 7, t = 0 ... 3) holds
//
//     a[0], a[1], a[2], a[3]   of the left matrix:   word t of row g, word t of row g + 8, word t + 4 of both
//     b[0], b[1]               of the right matrix:  words t and t + 4 of column g
//     d[0], d[1], d[2], d[3]   of the result:        columns 2 t and 2 t + 1 of row g, then of row g + 8
//
// A word is one float (K = 8) or two neighbouring 16-bit numbers along K (K = 16).

#if __CUDA_ARCH__ >= 800
__device__ __forceinline__ unsigned to_tf32(unsigned x) {
    unsigned y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(__uint_as_float(x)));
    return y;
}

__device__ __forceinline__ void multiply_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void multiply_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void multiply_bfloat16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else  // before Ampere the tensor cores know float16 only, eight of them along K; the other two types are not compiled for it
__device__ __forceinline__ void multiply_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#pragma unroll
    for (int k = 0; k < 2; k++)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(b[k]));
}
#endif

// Four 8 x 8 matrices of 16-bit numbers from shared memory: lane 8 i + r gives the address of row r (16 bytes) of matrix i, and
// lane 4 g + t receives in word[i] the word t of row g. Transposed: numbers 2 t and 2 t + 1 of column g.
__device__ __forceinline__ void load_matrices(unsigned (&word)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(unsigned (&word)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
}

// ---- shared memory whose size the launch gives ---------------------------------------------------------------------------

#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

#endif  // MINIGRAD_HOST
