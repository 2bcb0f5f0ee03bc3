// What dropout multiplies by, from the numbers that NumPy's generator would draw. See kernels/reference/dropout.py.
//
// NumPy's Philox (Salmon et al. 2011, Philox4x64 of ten rounds) encrypts a counter: every block of 256 bits follows from the
// counter alone. A float takes 32 bits of them, the low half of a word first; the generator may hold a half and some words that
// are left of its last block. So a thread computes the eight numbers of a block, and the first thread what was left.
#include "common.cuh"

typedef unsigned long long word_t;

// A generator, as kernels/cuda/dropout.py packs it.
struct State {
    word_t counter[4], key[2], buffer[4], position, has_half, half, unused[3];
};

// The words of the block whose number is ``ahead`` more than the counter.
__device__ __forceinline__ void philox(const State& s, word_t ahead, word_t (&words)[4]) {
    word_t c0 = s.counter[0] + ahead, carry = c0 < ahead, c1 = s.counter[1] + carry;
    carry = carry && c1 == 0;
    word_t c2 = s.counter[2] + carry;
    carry = carry && c2 == 0;
    word_t c3 = s.counter[3] + carry, k0 = s.key[0], k1 = s.key[1];
#pragma unroll
    for (int round = 0; round < 10; round++) {
        word_t low0 = 0xD2E7470EE14C6C93ull * c0, high0 = __umul64hi(0xD2E7470EE14C6C93ull, c0);
        word_t low1 = 0xCA5A826395121157ull * c2, high1 = __umul64hi(0xCA5A826395121157ull, c2);
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B97F4A7C15ull;
        k1 += 0xBB67AE8584CAA73Bull;
    }
    words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

// Where element ``i``, in the order of the indices, lies in memory: images of channels of pixels, kept channels-last. An array in
// the order of its indices is one image of one channel.
struct Places {
    index_t channels, pixels;
};

// Writes one element after another, from element i in a line (a channel of an image) on.
template <class T>
struct Writer {
    T* to;  // the first pixel of the channel
    index_t pixel, channel, channels, pixels;

    __device__ __forceinline__ Writer(T* noise, const Places& p, index_t i, index_t line) {
        channels = p.channels;
        pixels = p.pixels;
        index_t image = line / channels;
        channel = line - image * channels;
        pixel = i - line * pixels;
        to = noise + image * channels * pixels + channel;
    }
    __device__ __forceinline__ void write(T value) {
        to[pixel * channels] = value;
        if (++pixel < pixels) return;
        pixel = 0;
        if (++channel < channels) to++;
        else channel = 0, to += channels * pixels - channels + 1;
    }
};

template <class T>
__device__ __forceinline__ T noise_of(unsigned bits, float p, T scale) {
    return (float)(bits >> 8) * (1.0f / 16777216.0f) >= p ? scale : T();
}

// A thread for the block of eight numbers that is number ``turn`` of those that begin in a line (a channel of an image):
// neighbouring threads have neighbouring channels. ``from``: the generator in the card's memory, or null where ``given`` is it.
template <class T>
__global__ void dropout_noise(T* noise, State given, const State* from, float p, T scale, index_t size, index_t turns,
                              Places places) {
    const State s = from ? *from : given;
    int words_left = 4 - (int)s.position, left = (s.has_half ? 1 : 0) + 2 * words_left;
    index_t task = thread_number(), lines = size / places.pixels;
    if (task == 0) {  // what the generator holds
        Writer<T> writer(noise, places, 0, 0);
        for (int k = 0; k < left && k < size; k++) {
            int half = k - (s.has_half ? 1 : 0);
            unsigned bits = half < 0 ? (unsigned)s.half : (unsigned)(s.buffer[(int)s.position + half / 2] >> half % 2 * 32);
            writer.write(noise_of<T>(bits, p, scale));
        }
    }
    index_t group = task / places.channels, channel = task - group * places.channels;  // (image, turn, channel)
    index_t image = group / turns, turn = group - image * turns, line = image * places.channels + channel;
    if (line >= lines) return;
    index_t begin = line * places.pixels - left;
    index_t block = (begin > 0 ? (begin + 7) / 8 : 0) + turn, i = block * 8 + left;
    if (i >= (line + 1) * places.pixels) return;
    word_t words[4];
    philox(s, (word_t)block + 1, words);
    Writer<T> writer(noise, places, i, line);
#pragma unroll
    for (int k = 0; k < 8; k++)
        if (i + k < size) writer.write(noise_of<T>((unsigned)(words[k / 2] >> k % 2 * 32), p, scale));
}
