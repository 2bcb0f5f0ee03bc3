// Convolution, and its gradient with respect to the input, as products whose left operand is gathered from the image on the way
// into shared memory (implicit im2col). See kernels/reference/convolution.py for what is computed.
//
// Rows of the product are output pixels, columns output channels, and K runs over the window's taps and, within a tap, over the
// channels. The input gradient has the same form: every input pixel gathers from the output pixels whose window saw it. With a
// stride these are every second (third ...) tap, and which ones depends on the pixel's place modulo the stride: its phase.
// blockIdx: x tiles of rows, y tiles of columns, z group + groups * phase.
#include "gemm.cuh"

struct Gather {
    int n, h, w, c;     // the array that is read
    int oh, ow, o;      // the array that is written
    int groups, kh, kw, sh, sw, top, left, dh, dw;
    int transposed;  // input gradient
};

// One axis: output i * stretch + first reads input i * step + base + a * reach through tap tap_first + a * tap_step, a < taps.
struct Axis {
    int count, first, stretch, step, base, taps, tap_first, tap_step, reach;
};

__device__ __forceinline__ Axis forward_axis(int count, int kernel, int stride, int before, int dilation) {
    return {count, 0, 1, stride, -before, kernel, 0, 1, dilation};
}

__device__ __forceinline__ Axis transposed_axis(int size, int kernel, int stride, int before, int dilation, int phase) {
    int period = 1;  // taps whose pixels lie in one phase
    while (period * dilation % stride) period++;
    int tap = 0;
    while (tap < period && (phase + before - tap * dilation) % stride) tap++;
    Axis axis = {0, phase, stride, 1, 0, 0, tap, period, 0};
    axis.count = size > phase ? (size - phase + stride - 1) / stride : 0;
    if (tap == period || tap >= kernel) return axis;  // no tap reaches this phase: its gradient is 0
    axis.taps = (kernel - tap + period - 1) / period;
    axis.base = (phase + before - tap * dilation) / stride;
    axis.reach = -(period * dilation / stride);
    return axis;
}

// Where a row of the product reads and writes.
struct Row {
    index_t image, result;  // offsets; image < 0: the row does not exist
    int h, w;
};

// A place along K, of one thread: it copies V numbers of one tap at a time.
struct Place {
    int a, b, channel;

    __device__ __forceinline__ void advance(int count, int channels, int taps) {
        for (channel += count; channel >= channels; channel -= channels)
            if (++b == taps) b = 0, a++;
    }
};

// Where filters lie that were not packed: the steps, in numbers, from one to the next of each kind.
struct Strides {
    index_t group, column, channel, row, tap;
};

// PACKED: the filters are what conv_filters makes, and V numbers are copied at once; else they lie at ``strides``, which costs
// less than packing where they are few.
template <class Math, int BM, int BN, int WARPS_M, int V, bool PACKED>
__global__ __launch_bounds__(BLOCK, 2) void conv_gather(const typename Math::T* x, const typename Math::T* filters,
                                                        const typename Math::T* bias, typename Math::T* y, Gather g,
                                                        Strides strides) {
    typedef typename Math::T T;
    typedef real_t<T> R;
    typedef Product<Math, BM, BN, WARPS_M, ALONG_K, ALONG_K> Sums;
    const int BK = Sums::A::BK, PER_ROW = BK / V, VB = PACKED ? V : 1, PER_COLUMN = BK / VB;
    DYNAMIC_SHARED(memory);
    Row* rows = reinterpret_cast<Row*>(memory);
    T* tiles = reinterpret_cast<T*>(memory + sizeof(Row) * BM);

    int group = blockIdx.z % g.groups, phase = blockIdx.z / g.groups, channels = g.c / g.groups, outputs = g.o / g.groups;
    Axis down = g.transposed ? transposed_axis(g.oh, g.kh, g.sh, g.top, g.dh, phase / g.sw)
                             : forward_axis(g.oh, g.kh, g.sh, g.top, g.dh);
    Axis across = g.transposed ? transposed_axis(g.ow, g.kw, g.sw, g.left, g.dw, phase % g.sw)
                               : forward_axis(g.ow, g.kw, g.sw, g.left, g.dw);
    index_t first = (index_t)blockIdx.x * BM, count = (index_t)g.n * down.count * across.count;
    if (first >= count) return;  // another phase has more pixels
    int column = blockIdx.y * BN;

    for (int i = threadIdx.x; i < BM; i += BLOCK) {
        Grid at = on_grid(first + i, down.count, across.count);
        int h = down.first + at.row * down.stretch, w = across.first + at.column * across.stretch;
        rows[i].image = first + i < count ? at.image * g.h * g.w * g.c : -1;
        rows[i].result = ((at.image * g.oh + h) * g.ow + w) * g.o;
        rows[i].h = at.row * down.step + down.base;
        rows[i].w = at.column * across.step + across.base;
    }
    __syncthreads();

    Place place = {0, 0, 0}, other = {0, 0, 0};  // of the image and of the filters
    place.advance(threadIdx.x % PER_ROW * V, channels, across.taps);
    other.advance(threadIdx.x % PER_COLUMN * VB, channels, across.taps);
    auto load = [&](int step) {
        T* a = tiles + step % STAGES * (Sums::A::SIZE + Sums::B::SIZE);
        T* b = a + Sums::A::SIZE;
        int k = threadIdx.x % PER_ROW * V;
        bool exists = place.a < down.taps;
        int shift_h = place.a * down.reach, shift_w = place.b * across.reach, channel = group * channels + place.channel;
        for (int i = threadIdx.x / PER_ROW; i < BM; i += BLOCK / PER_ROW) {
            Row row = rows[i];
            int h = row.h + shift_h, w = row.w + shift_w;
            bool inside = exists && row.image >= 0 && (unsigned)h < (unsigned)g.h && (unsigned)w < (unsigned)g.w;
            const T* from = inside ? x + row.image + ((index_t)h * g.w + w) * g.c + channel : x;
            copy_async<V * sizeof(T)>(a + Sums::A::at(i, k), from, inside);
        }
        int row = down.tap_first + other.a * down.tap_step, tap = across.tap_first + other.b * across.tap_step;
        index_t start = PACKED ? (index_t)(row * g.kw + tap) * channels + other.channel
                               : group * strides.group + other.channel * strides.channel + row * strides.row + tap * strides.tap;
        exists = other.a < down.taps;
        k = threadIdx.x % PER_COLUMN * VB;
        for (int i = threadIdx.x / PER_COLUMN; i < BN; i += BLOCK / PER_COLUMN) {
            bool inside = exists && column + i < outputs;
            index_t filter = PACKED ? ((index_t)group * outputs + column + i) * (g.kh * g.kw) * channels
                                    : (column + i) * strides.column;
            copy_async<VB * sizeof(T)>(b + Sums::B::at(i, k), inside ? filters + filter + start : filters, inside);
        }
        place.advance(BK, channels, across.taps);
        other.advance(BK, channels, across.taps);
    };

    Sums sums;
    sums.clear();
    index_t depth = (index_t)down.taps * across.taps * channels;
    walk((int)((depth + BK - 1) / BK), load, [&](int step) {
        const T* a = tiles + step % STAGES * (Sums::A::SIZE + Sums::B::SIZE);
        sums.step(a, a + Sums::A::SIZE);
    });

    bool pairs = (g.o | outputs) % 2 == 0;  // two neighbouring numbers then lie where one access of twice the size may go
    sums.visit([&](int i, int j, auto& values) {
        const int COUNT = sizeof(values) / sizeof(values[0]);
        if (rows[i].image < 0 || column + j >= outputs) return;
        index_t channel = group * outputs + column + j;
        T* to = y + rows[i].result + channel;
        Pack<T, COUNT> pack;
#pragma unroll
        for (int k = 0; k < COUNT; k++) {
            bool here = column + j + k < outputs;
            pack.at[k] = narrow<T>(bias && here ? (R)values[k] + widen(bias[channel + k]) : (R)values[k]);
        }
        if (COUNT == 1 || pairs) {
            store_pack(to, pack);
            return;
        }
#pragma unroll
        for (int k = 0; k < COUNT; k++)
            if (column + j + k < outputs) to[k] = pack.at[k];
    });
}

// The filters as conv_gather reads them: (groups, columns, kh, kw, channels) from (O, C/groups, kh, kw) of any strides. Columns
// are output channels and channels input channels; for the input gradient the other way round.
template <class T>
__global__ void conv_filters(const T* weight, T* filters, int groups, int columns, int taps, int channels, int kw,
                             index_t stride_group, index_t stride_column, index_t stride_channel, index_t stride_row,
                             index_t stride_tap) {
    index_t at = thread_number();
    if (at >= (index_t)groups * columns * taps * channels) return;
    int channel = at % channels, tap = at / channels % taps, column = at / channels / taps % columns;
    index_t group = at / channels / taps / columns;
    filters[at] = weight[group * stride_group + column * stride_column + channel * stride_channel + tap / kw * stride_row +
                         tap % kw * stride_tap];
}
