// The gradient of a convolution's weight: one product with the pixels as K. Left operand: gy, its channels are the rows; right
// operand: what the windows saw, a column for each tap and channel. Many pixels and few results: K is split among blocks, whose
// sums a second kernel adds in a fixed order.
// blockIdx: x tiles of columns, y tiles of rows, z group + groups * split.
#include "gemm.cuh"
#include "window.cuh"

// The pixel that a row of the tiles stands for.
struct Pixel {
    index_t image;  // offset of its image in x; < 0: beyond the last pixel of this split
    int h, w;       // where its window begins
};

template <class Math, int BM, int BN, int WARPS_M, int VA, int VB>
__global__ __launch_bounds__(BLOCK, 2) void conv_weight(const typename Math::T* gy, const typename Math::T* x,
                                                        real_t<typename Math::T>* parts, Window g, index_t pixels_of_a_split) {
    typedef typename Math::T T;
    typedef Product<Math, BM, BN, WARPS_M, ACROSS, ACROSS> Sums;
    const int BK = Sums::A::BK;
    DYNAMIC_SHARED(memory);
    Pixel* pixels = reinterpret_cast<Pixel*>(memory);  // of four steps
    T* tiles = reinterpret_cast<T*>(memory + sizeof(Pixel) * 4 * BK);

    int group = blockIdx.z % g.groups, split = blockIdx.z / g.groups, channels = g.c / g.groups, outputs = g.o / g.groups;
    int row = blockIdx.y * BM, column = blockIdx.x * BN, columns = g.kh * g.kw * channels;
    index_t begin = split * pixels_of_a_split, end = min(begin + pixels_of_a_split, (index_t)g.n * g.oh * g.ow);
    int steps = end > begin ? (int)((end - begin + BK - 1) / BK) : 0;

    auto find = [&](int step) {  // by some of the threads, a barrier before the others read it
        for (int i = threadIdx.x; i < BK; i += BLOCK) {
            index_t m = begin + (index_t)step * BK + i;
            Grid at = on_grid(m, g.oh, g.ow);
            pixels[step % 4 * BK + i] = {m < end ? at.image * g.h * g.w * g.c : -1, at.row * g.sh - g.top, at.column * g.sw - g.left};
        }
    };

    // The columns that this thread copies are the same in every step.
    const int ROW_A = BM / VA, ROW_B = BN / VB;
    int left = threadIdx.x % ROW_A * VA, right = threadIdx.x % ROW_B * VB;
    bool left_exists = row + left < outputs, right_exists = column + right < columns;
    int tap = (column + right) / channels, channel = group * channels + (column + right) % channels;
    int shift_h = tap / g.kw * g.dh, shift_w = tap % g.kw * g.dw;

    auto load = [&](int step) {
        T* a = tiles + step % STAGES * (Sums::A::SIZE + Sums::B::SIZE);
        T* b = a + Sums::A::SIZE;
        const Pixel* some = pixels + step % 4 * BK;
        index_t m = begin + (index_t)step * BK;
        for (int i = threadIdx.x / ROW_A; i < BK; i += BLOCK / ROW_A) {
            bool inside = left_exists && m + i < end;
            const T* from = inside ? gy + (m + i) * g.o + group * outputs + row + left : gy;
            copy_async<VA * sizeof(T)>(a + Sums::A::at(left, i), from, inside);
        }
        for (int i = threadIdx.x / ROW_B; i < BK; i += BLOCK / ROW_B) {
            Pixel pixel = some[i];
            int h = pixel.h + shift_h, w = pixel.w + shift_w;
            bool inside = right_exists && pixel.image >= 0 && (unsigned)h < (unsigned)g.h && (unsigned)w < (unsigned)g.w;
            const T* from = inside ? x + pixel.image + ((index_t)h * g.w + w) * g.c + channel : x;
            copy_async<VB * sizeof(T)>(b + Sums::B::at(right, i), from, inside);
        }
        if (step >= STAGES - 1) find(step + 1);  // in the place of step - 3, which was loaded before the last barrier
    };

    Sums sums;
    sums.clear();
    for (int step = 0; step < STAGES; step++) find(step);
    __syncthreads();
    walk(steps, load, [&](int step) {
        const T* a = tiles + step % STAGES * (Sums::A::SIZE + Sums::B::SIZE);
        sums.step(a, a + Sums::A::SIZE);
    });

    auto* part = parts + ((index_t)split * g.o + group * outputs) * columns;
    sums.visit([&](int i, int j, auto& values) {
        const int COUNT = sizeof(values) / sizeof(values[0]);
        if (row + i >= outputs) return;
#pragma unroll
        for (int k = 0; k < COUNT; k++)
            if (column + j + k < columns) part[(index_t)(row + i) * columns + column + j + k] = values[k];
    });
}

// gw (O, channels, taps) from the parts (splits, O, taps, channels).
template <class T>
__global__ void conv_weight_sum(const real_t<T>* parts, T* gw, int splits, int outputs, int taps, int channels) {
    index_t at = thread_number(), size = (index_t)outputs * taps * channels;
    if (at >= size) return;
    int channel = at % channels, tap = at / channels % taps;
    index_t o = at / channels / taps;
    double sum = 0;
    for (int s = 0; s < splits; s++) sum += parts[s * size + at];
    gw[(o * channels + channel) * taps + tap] = narrow<T>(sum);
}
