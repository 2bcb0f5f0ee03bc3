// The sizes of a convolution, as _window.py packs them: x is (n, h, w, c), y (n, oh, ow, o).
#pragma once
#include "common.cuh"

struct Window {
    int n, h, w, c, oh, ow, o, groups, kh, kw, sh, sw, top, left, dh, dw;
};
