"""One GPU kernel from a camera's bytes to the network's input: colour, resize, normalise.

Imported only where a CUDA device is used and Triton (part of torch's CUDA builds) is installed.

Shape suffixes: C channels, H/W content of the network input, Y/X source pixels, K taps of an axis.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from seg_perception.imaging.encodings import ENCODINGS, Layout
from seg_perception.structures import Frame

_BLOCK_PIXELS = 128

# How the kernel reads a pixel.
_PACKED, _YUV422, _SEMI_PLANAR, _BAYER = range(4)

# Where red, green and blue (or Y, U and V) are within a pixel (or a pair of pixels).
_OFFSETS = {
    Layout.MONO: (0, 0, 0),
    Layout.RGB: (0, 1, 2),
    Layout.RGBA: (0, 1, 2),
    Layout.BGR: (2, 1, 0),
    Layout.BGRA: (2, 1, 0),
}
_YUV_OFFSETS = {
    'uyvy': (1, 0, 2),
    'yuv422': (1, 0, 2),
    'yuyv': (0, 1, 3),
    'yuv422_yuy2': (0, 1, 3),
    'nv12': (0, 0, 1),
    'nv21': (0, 1, 0),
    'nv24': (0, 0, 1),
}
# Row and column of the first red pixel.
_BAYER_RED = {'rggb': (0, 0), 'bggr': (1, 1), 'gbrg': (1, 0), 'grbg': (0, 1)}


def fill(
    content_CHW: torch.Tensor,
    source: torch.Tensor,
    frame: Frame,
    taps_y: tuple[torch.Tensor, torch.Tensor],
    taps_x: tuple[torch.Tensor, torch.Tensor],
    gain_C: torch.Tensor,
    bias_C: torch.Tensor,
    *,
    is_bgr: bool,
) -> None:
    """Writes one image, resized and normalised, over the content of an input.

    Args:
        content_CHW: the target, any strides, floating point; ``pixel * gain + bias``.
        source: the frame's bytes on the device, as the camera sent them.
        frame: checked; says how to read them. Its encoding has 8 bits a sample.
        taps_y: the source rows that make up each target row and their weights: int32 and
            float32 (H, K).
        taps_x: the same for columns, (W, K).
        gain_C: float32, per channel of the target.
        bias_C: the same.
        is_bgr: order of the target's channels.
    """
    encoding = ENCODINGS[frame.encoding]
    mode, num_channels, chroma_rows, offsets, red_yx = _PACKED, encoding.channels, 1, (0, 0, 0), 0
    if encoding.layout is Layout.BAYER:
        mode = _BAYER
        top, left = _BAYER_RED[encoding.name[6:10]]
        red_yx = 2 * top + left
    elif encoding.layout.is_packed:
        offsets = _OFFSETS[encoding.layout]
    else:
        mode = _YUV422 if encoding.layout is Layout.YUV422 else _SEMI_PLANAR
        offsets = _YUV_OFFSETS[encoding.name]
        chroma_rows = encoding.multiple_hw[0]
    height, width = content_CHW.shape[1:]
    _resize[(triton.cdiv(height * width, _BLOCK_PIXELS),)](
        source,
        content_CHW,
        taps_y[0],
        taps_y[1],
        taps_x[0],
        taps_x[1],
        gain_C,
        bias_C,
        height,
        width,
        frame.height,
        frame.width,
        frame.step,
        *content_CHW.stride(),
        taps_y[0].shape[1],
        taps_x[0].shape[1],
        num_channels,
        *offsets,
        chroma_rows,
        red_yx,
        MODE=mode,
        IS_BGR=is_bgr,
        BLOCK=_BLOCK_PIXELS,
    )


@triton.jit
def _rgb_of_yuv(luma, u, v):
    """BT.601, video range, in OpenCV's fixed-point arithmetic."""
    luma = tl.maximum(luma.to(tl.int32) - 16, 0) * 1220542
    u = u.to(tl.int32) - 128
    v = v.to(tl.int32) - 128
    half = 1 << 19
    r = (luma + (1673527 * v + half)) >> 20
    g = (luma + (-852492 * v - 409993 * u + half)) >> 20
    b = (luma + (2116026 * u + half)) >> 20
    r = tl.minimum(tl.maximum(r, 0), 255).to(tl.float32)
    g = tl.minimum(tl.maximum(g, 0), 255).to(tl.float32)
    b = tl.minimum(tl.maximum(b, 0), 255).to(tl.float32)
    return r, g, b


@triton.jit
def _sample(source, y, x, step, inside):
    return tl.load(source + y * step + x, mask=inside, other=0).to(tl.int32)


@triton.jit
def _rgb_of_bayer(source, y, x, num_rows, num_columns, step, red_yx, inside):
    """Bilinear demosaicing; the outer pixels are those beside them, as OpenCV has it."""
    y = tl.minimum(tl.maximum(y, 1), num_rows - 2)
    x = tl.minimum(tl.maximum(x, 1), num_columns - 2)
    here = _sample(source, y, x, step, inside)
    left = _sample(source, y, x - 1, step, inside)
    right = _sample(source, y, x + 1, step, inside)
    above = _sample(source, y - 1, x, step, inside)
    below = _sample(source, y + 1, x, step, inside)
    across = (left + right + 1) >> 1
    upright = (above + below + 1) >> 1
    cross = (left + right + above + below + 2) >> 2
    diagonal = _sample(source, y - 1, x - 1, step, inside)
    diagonal += _sample(source, y - 1, x + 1, step, inside)
    diagonal += _sample(source, y + 1, x - 1, step, inside)
    diagonal += _sample(source, y + 1, x + 1, step, inside)
    diagonal = (diagonal + 2) >> 2
    is_red_row = (y & 1) == (red_yx >> 1)
    is_red_column = (x & 1) == (red_yx & 1)
    is_green = is_red_row != is_red_column
    g = tl.where(is_green, here, cross)
    # On a red row the reds are beside a green pixel, the blues above and below; else the reverse.
    r = tl.where(is_green, tl.where(is_red_row, across, upright), here)
    b = tl.where(is_green, tl.where(is_red_row, upright, across), diagonal)
    is_blue = (is_green == 0) & (is_red_row == 0)
    r, b = tl.where(is_blue, diagonal, r), tl.where(is_blue, here, b)
    return r.to(tl.float32), g.to(tl.float32), b.to(tl.float32)


_SIZES = [
    'height', 'width', 'num_rows', 'num_columns', 'step', 'stride_c', 'stride_h', 'stride_w',
    'num_taps_y', 'num_taps_x', 'num_channels', 'offset_0', 'offset_1', 'offset_2',
    'chroma_rows', 'red_yx',
]  # fmt: skip


# Compiled anew for no size: a camera that changes its size must not stop the node for seconds.
@triton.jit(do_not_specialize=_SIZES)
def _resize(
    source,
    target,
    index_y,
    weight_y,
    index_x,
    weight_x,
    gain,
    bias,
    height,
    width,
    num_rows,
    num_columns,
    step,
    stride_c,
    stride_h,
    stride_w,
    num_taps_y,
    num_taps_x,
    num_channels,
    offset_0,
    offset_1,
    offset_2,
    chroma_rows,
    red_yx,
    MODE: tl.constexpr,
    IS_BGR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height * width
    row = pixel // width
    column = pixel - row * width
    r = tl.zeros((BLOCK,), tl.float32)
    g = tl.zeros((BLOCK,), tl.float32)
    b = tl.zeros((BLOCK,), tl.float32)
    for tap_y in range(num_taps_y):
        y = tl.load(index_y + row * num_taps_y + tap_y, mask=inside, other=0)
        along_y = tl.load(weight_y + row * num_taps_y + tap_y, mask=inside, other=0.0)
        row_r = tl.zeros((BLOCK,), tl.float32)
        row_g = tl.zeros((BLOCK,), tl.float32)
        row_b = tl.zeros((BLOCK,), tl.float32)
        for tap_x in range(num_taps_x):
            x = tl.load(index_x + column * num_taps_x + tap_x, mask=inside, other=0)
            weight = tl.load(weight_x + column * num_taps_x + tap_x, mask=inside, other=0.0)
            if MODE == 0:
                at = source + y * step + x * num_channels
                tap_r = tl.load(at + offset_0, mask=inside, other=0).to(tl.float32)
                tap_g = tl.load(at + offset_1, mask=inside, other=0).to(tl.float32)
                tap_b = tl.load(at + offset_2, mask=inside, other=0).to(tl.float32)
            elif MODE == 1:
                pair = source + y * step + (x // 2) * 4
                luma = tl.load(pair + offset_0 + (x % 2) * 2, mask=inside, other=0)
                u = tl.load(pair + offset_1, mask=inside, other=0)
                v = tl.load(pair + offset_2, mask=inside, other=0)
                tap_r, tap_g, tap_b = _rgb_of_yuv(luma, u, v)
            elif MODE == 2:
                luma = tl.load(source + y * step + x, mask=inside, other=0)
                # A row of chroma has as many bytes as one of luma, twice as many at 4:4:4.
                chroma_step = step * (3 - chroma_rows)
                pair = source + num_rows * step + (y // chroma_rows) * chroma_step
                pair += (x // chroma_rows) * 2
                u = tl.load(pair + offset_1, mask=inside, other=0)
                v = tl.load(pair + offset_2, mask=inside, other=0)
                tap_r, tap_g, tap_b = _rgb_of_yuv(luma, u, v)
            else:
                tap_r, tap_g, tap_b = _rgb_of_bayer(
                    source, y, x, num_rows, num_columns, step, red_yx, inside
                )
            row_r += weight * tap_r
            row_g += weight * tap_g
            row_b += weight * tap_b
        # Bicubic weights may lead outside.
        r += along_y * tl.minimum(tl.maximum(row_r, 0.0), 255.0)
        g += along_y * tl.minimum(tl.maximum(row_g, 0.0), 255.0)
        b += along_y * tl.minimum(tl.maximum(row_b, 0.0), 255.0)
    r = tl.minimum(tl.maximum(r, 0.0), 255.0)
    g = tl.minimum(tl.maximum(g, 0.0), 255.0)
    b = tl.minimum(tl.maximum(b, 0.0), 255.0)
    if IS_BGR:
        r, b = b, r
    target += row * stride_h + column * stride_w
    r = r * tl.load(gain) + tl.load(bias)
    g = g * tl.load(gain + 1) + tl.load(bias + 1)
    b = b * tl.load(gain + 2) + tl.load(bias + 2)
    tl.store(target, r.to(target.dtype.element_ty), mask=inside)
    tl.store(target + stride_c, g.to(target.dtype.element_ty), mask=inside)
    tl.store(target + 2 * stride_c, b.to(target.dtype.element_ty), mask=inside)
