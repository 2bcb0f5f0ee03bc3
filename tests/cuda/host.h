// CUDA C on the processor: enough of it to run the kernels of this project, one thread after another, and to catch what a card
// would not: threads that leave a barrier out, reads of what another thread has not written yet, copies that nobody waited for.
//
// The threads of a block are fibers: each runs until it meets a barrier. A block's shared memory, and what asynchronous copies
// have not delivered, holds NaN.
#pragma once
#define MINIGRAD_HOST

#include <math.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) alignas(n)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
namespace host {

struct Copy {
    void* to;
    const void* from;
    int bytes;
};

const int MOST_GROUPS = 8;

struct Fiber {
    jmp_buf place;
    ucontext_t context;
    char* stack = nullptr;
    uint3 thread;
    int lane = 0, parity = 0;
    enum { READY, IN_WARP, IN_BLOCK, DONE } state = DONE;
    bool begun = false;
    std::vector<Copy> groups[MOST_GROUPS];  // of copies under way: closed ones, in a ring, and one that is open
    int first = 0, closed = 0;
    std::vector<Copy>& group(int i) { return groups[(first + i) % MOST_GROUPS]; }
};

struct Warp {
    int alive = 0, arrived = 0;
    unsigned long long slot[2][32][8];
};

const size_t STACK = 128 * 1024;
inline std::vector<Fiber> fibers(1024);
inline std::vector<Warp> warps(32);
inline Fiber* current = nullptr;
inline jmp_buf scheduler;
inline void (*body)(void*) = nullptr;
inline void* closure = nullptr;
inline int alive = 0, arrived = 0;
inline const void* awaited = nullptr;  // the barrier at which the arrived threads wait
inline std::vector<unsigned char> shared;
inline char failure[256];
inline uint3 block_index;
inline dim3 block_size, grid_size;
inline bool backwards = false;  // run the threads from the last to the first

[[noreturn]] inline void give_up(const char* what) {
    snprintf(failure, sizeof failure, "%s (block %u %u %u, thread %u %u %u)", what, block_index.x, block_index.y, block_index.z,
             current->thread.x, current->thread.y, current->thread.z);
    longjmp(scheduler, 2);
}

inline void deliver(std::vector<Copy>& group) {
    for (auto& c : group) {
        if (c.from) memcpy(c.to, c.from, c.bytes);
        else memset(c.to, 0, c.bytes);
    }
    group.clear();
}

inline void leave() { longjmp(scheduler, 1); }

inline void release_block() {
    arrived = 0;
    for (unsigned i = 0; i < block_size.x * block_size.y * block_size.z; i++)
        if (fibers[i].state == Fiber::IN_BLOCK) fibers[i].state = Fiber::READY;
}

inline void release_warp(int w) {
    warps[w].arrived = 0;
    unsigned count = block_size.x * block_size.y * block_size.z;
    for (unsigned i = 32u * w; i < std::min(count, 32u * w + 32); i++)
        if (fibers[i].state == Fiber::IN_WARP) fibers[i].state = Fiber::READY;
}

inline void fiber_main() {
    for (;;) {
        body(closure);
        Fiber* self = current;
        for (int i = 0; i <= self->closed; i++)
            if (!self->group(i).empty())
                give_up(i < self->closed ? "the thread ends while its copies are under way" : "the thread ends with copies in no group");
        self->closed = 0;
        self->state = Fiber::DONE;
        alive--;
        Warp& warp = warps[(self - &fibers[0]) / 32];
        warp.alive--;
        if (warp.alive && warp.arrived == warp.alive) release_warp((self - &fibers[0]) / 32);
        if (alive && arrived == alive) release_block();
        if (!setjmp(self->place)) leave();
    }
}

__attribute__((noinline)) inline void wait_block(const void* where) {
    Fiber* self = current;
    if (arrived && where != awaited) give_up("threads wait at different barriers");
    awaited = where;
    if (++arrived == alive) {
        release_block();
        return;
    }
    self->state = Fiber::IN_BLOCK;
    if (!setjmp(self->place)) leave();
}

__attribute__((noinline)) inline void wait_warp() {
    Fiber* self = current;
    int w = (self - &fibers[0]) / 32;
    if (++warps[w].arrived == warps[w].alive) {
        release_warp(w);
        return;
    }
    self->state = Fiber::IN_WARP;
    if (!setjmp(self->place)) leave();
}

// What every lane of the warp gives: slot[lane].
template <class T>
inline unsigned long long (*exchange(const T& value))[8] {
    static_assert(sizeof(T) <= 64, "too much for a slot");
    Fiber* self = current;
    auto& slots = warps[(self - &fibers[0]) / 32].slot[self->parity ^= 1];
    memcpy(slots[self->lane], &value, sizeof value);
    wait_warp();
    return slots;
}

template <class T>
inline T given(unsigned long long (*slots)[8], int lane) {
    T value;
    memcpy(&value, slots[lane], sizeof value);
    return value;
}

inline bool run_block(int threads) {
    alive = threads;
    arrived = 0;
    for (auto& warp : warps) warp.alive = warp.arrived = 0;
    for (int i = 0; i < threads; i++) {
        Fiber& f = fibers[i];
        f.thread = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
        f.lane = i % 32;
        f.parity = 0;
        for (auto& group : f.groups) group.clear();
        f.first = f.closed = 0;
        warps[i / 32].alive++;
        if (f.stack) {
            f.state = Fiber::READY;
            continue;
        }
        f.stack = (char*)malloc(STACK);
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack;
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        makecontext(&f.context, fiber_main, 0);
        f.state = Fiber::READY;
        f.begun = false;
    }
    volatile bool moved = true;
    while (alive && moved) {
        moved = false;
        for (volatile int k = 0; k < threads; k++) {
            Fiber& f = fibers[backwards ? threads - 1 - k : k];
            if (f.state != Fiber::READY) continue;
            moved = true;
            current = &f;
            switch (setjmp(scheduler)) {
                case 0:
                    if (!f.begun) {
                        f.begun = true;
                        setcontext(&f.context);
                    }
                    longjmp(f.place, 1);
                case 2:
                    for (int i = 0; i < threads; i++) {  // the other fibers are in the middle of the kernel: begin them anew
                        free(fibers[i].stack);
                        fibers[i].stack = nullptr;
                    }
                    return false;
            }
        }
    }
    if (alive) {
        current = &fibers[0];
        snprintf(failure, sizeof failure, "%d of %d threads wait at a barrier that the others never reach", alive, threads);
        for (int i = 0; i < threads; i++) {
            free(fibers[i].stack);
            fibers[i].stack = nullptr;
        }
        return false;
    }
    return true;
}

template <class... A, size_t... I>
inline void call(void (*kernel)(A...), void** values, std::index_sequence<I...>) {
    kernel(*(std::remove_cv_t<std::remove_reference_t<A>>*)values[I]...);
}

template <class... A>
inline const char* launch(void (*kernel)(A...), const unsigned* grid, const unsigned* block, int shared_bytes, void** values,
                          int count, const int* sizes, bool from_the_end) {
    failure[0] = 0;
    const int expected[] = {(int)sizeof(A)..., 0};
    if (count != (int)sizeof...(A)) {
        snprintf(failure, sizeof failure, "%d values for %d parameters", count, (int)sizeof...(A));
        return failure;
    }
    for (int i = 0; i < count; i++)
        if (sizes[i] != expected[i]) {
            snprintf(failure, sizeof failure, "value %d has %d bytes, the parameter %d", i, sizes[i], expected[i]);
            return failure;
        }
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {block[0], block[1], block[2]};
    backwards = from_the_end;
    auto invoke = [&] { call(kernel, values, std::index_sequence_for<A...>()); };
    closure = &invoke;
    body = [](void* f) { (*(decltype(invoke)*)f)(); };
    int threads = block[0] * block[1] * block[2];
    unsigned long long all = (unsigned long long)grid[0] * grid[1] * grid[2];
    for (unsigned long long n = 0; n < all; n++) {
        unsigned long long b = from_the_end ? all - 1 - n : n;
        block_index = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])};
        shared.assign(shared_bytes + 16, 0xff);
        if (!run_block(threads)) return failure;
    }
    return nullptr;
}

}  // namespace host

#define threadIdx (host::current->thread)
#define blockIdx (host::block_index)
#define blockDim (host::block_size)
#define gridDim (host::grid_size)
#define DYNAMIC_SHARED(name) \
    unsigned char* name = (unsigned char*)(((uintptr_t)host::shared.data() + 15) & ~(uintptr_t)15)

// A barrier is told from another by the line of the source where it stands.
#define __syncthreads() host::wait_block((const void*)(uintptr_t)__LINE__)
template <class T>
inline T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
    auto slots = host::exchange(value);
    return host::given<T>(slots, host::current->lane ^ mask);
}
inline float __uint_as_float(unsigned x) {
    float y;
    memcpy(&y, &x, 4);
    return y;
}
inline unsigned __float_as_uint(float x) {
    unsigned y;
    memcpy(&y, &x, 4);
    return y;
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
template <class T, class U>
inline auto max(T a, U b) -> decltype(a + b) { return a < b ? b : a; }
template <class T, class U>
inline auto min(T a, U b) -> decltype(a + b) { return b < a ? b : a; }
using std::isfinite;
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dmul_rn(double a, double b) { return a * b; }

// ---- in the place of machine.cuh -------------------------------------------------------------------------------------------

struct half_t {
    unsigned short bits;
};
struct bfloat16_t {
    unsigned short bits;
};

inline float widen(half_t x) {
    _Float16 y;
    memcpy(&y, &x, 2);
    return (float)y;
}
inline float widen(bfloat16_t x) { return __uint_as_float((unsigned)x.bits << 16); }
inline half_t to_half(float x) {
    _Float16 y = (_Float16)x;
    half_t z;
    memcpy(&z, &y, 2);
    return z;
}
inline bfloat16_t to_bfloat16(float x) {
    unsigned u = __float_as_uint(x);
    return {x != x ? (unsigned short)0x7fff : (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16)};
}

// Copies arrive when they are waited for, and not before.
template <int BYTES>
inline void copy_async(void* to, const void* from, bool inside) {
    if ((uintptr_t)to % BYTES || (inside && (uintptr_t)from % BYTES)) host::give_up("a copy from or to an address that is not aligned");
    memset(to, 0xff, BYTES);
    host::current->group(host::current->closed).push_back({to, inside ? from : nullptr, BYTES});
}
inline void copies_close() {
    if (++host::current->closed == host::MOST_GROUPS) host::give_up("too many groups of copies are under way");
}
template <int PENDING>
inline void copies_wait() {
    for (auto& self = *host::current; self.closed > PENDING; self.closed--) {
        host::deliver(self.group(0));
        self.first = (self.first + 1) % host::MOST_GROUPS;
    }
}

inline unsigned to_tf32(unsigned x) {  // to the nearest of 10 bits, ties away from zero
    if ((x & 0x7f800000) == 0x7f800000) return x;
    return (x + 0x1000) & ~0x1fffu;
}

// A lane's numbers, PER_WORD of each word.
template <int PER_WORD>
struct Fragment {
    float a[4][PER_WORD], b[2][PER_WORD];
};

// The product of a warp's fragments: ``number(word, half)`` reads one of the numbers of a word.
template <int PER_WORD, class F>
inline void multiply_fragments(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], F number) {
    Fragment<PER_WORD> mine;
    for (int h = 0; h < PER_WORD; h++) {
        for (int i = 0; i < 4; i++) mine.a[i][h] = number(a[i], h);
        for (int i = 0; i < 2; i++) mine.b[i][h] = number(b[i], h);
    }
    auto slots = host::exchange(mine);
    int g = host::current->lane / 4, t = host::current->lane % 4;
    for (int i = 0; i < 4; i++) {
        int row = g + i / 2 * 8, column = 2 * t + i % 2;
        float sum = 0;
        for (int word = 0; word < 8; word++) {
            auto& left = *(const Fragment<PER_WORD>*)slots[row % 8 * 4 + word % 4];
            auto& right = *(const Fragment<PER_WORD>*)slots[column * 4 + word % 4];
            for (int h = 0; h < PER_WORD; h++) sum += left.a[row / 8 + word / 4 * 2][h] * right.b[word / 4][h];
        }
        d[i] += sum;
    }
}

inline void multiply_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply_fragments<1>(d, a, b, [](unsigned word, int) { return __uint_as_float(word & ~0x1fffu); });
}
inline void multiply_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply_fragments<2>(d, a, b, [](unsigned word, int h) { return widen(half_t{(unsigned short)(word >> 16 * h)}); });
}
inline void multiply_bfloat16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply_fragments<2>(d, a, b, [](unsigned word, int h) { return widen(bfloat16_t{(unsigned short)(word >> 16 * h)}); });
}

inline void load_matrices(unsigned (&word)[4], const void* row) {
    if ((uintptr_t)row % 16) host::give_up("the row of a matrix is not aligned");
    auto slots = host::exchange(row);
    int g = host::current->lane / 4, t = host::current->lane % 4;
    for (int i = 0; i < 4; i++) word[i] = ((const unsigned*)host::given<const void*>(slots, 8 * i + g))[t];
    host::wait_warp();  // all have read before one of them goes on to write
}
inline void load_matrices_transposed(unsigned (&word)[4], const void* row) {
    if ((uintptr_t)row % 16) host::give_up("the row of a matrix is not aligned");
    auto slots = host::exchange(row);
    int g = host::current->lane / 4, t = host::current->lane % 4;
    for (int i = 0; i < 4; i++) {
        unsigned first = ((const unsigned short*)host::given<const void*>(slots, 8 * i + 2 * t))[g];
        unsigned second = ((const unsigned short*)host::given<const void*>(slots, 8 * i + 2 * t + 1))[g];
        word[i] = first | second << 16;
    }
    host::wait_warp();
}
