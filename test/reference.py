"""Slow, obvious twins of the fast paths: the oracle the tests compare with.

Plain loops and float64, written from the definitions and not from the code they check, and
themselves checked on hand-written values in ``test_reference.py``. Small images only. Everything
here must work without torch, OpenCV and ROS.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

# --- imaging: raw bytes to RGB -------------------------------------------------------------------

Array = npt.NDArray[np.float64]

_SAMPLES = {  # name -> (bytes per sample, samples per pixel, position of red, green, blue)
    'rgb8': (1, 3, (0, 1, 2)),
    'bgr8': (1, 3, (2, 1, 0)),
    'rgba8': (1, 4, (0, 1, 2)),
    'bgra8': (1, 4, (2, 1, 0)),
    'mono8': (1, 1, (0, 0, 0)),
    'rgb16': (2, 3, (0, 1, 2)),
    'bgr16': (2, 3, (2, 1, 0)),
    'rgba16': (2, 4, (0, 1, 2)),
    'bgra16': (2, 4, (2, 1, 0)),
    'mono16': (2, 1, (0, 0, 0)),
    '8UC1': (1, 1, (0, 0, 0)),
    '8UC3': (1, 3, (2, 1, 0)),
    '8UC4': (1, 4, (2, 1, 0)),
    '16UC1': (2, 1, (0, 0, 0)),
    '16UC3': (2, 3, (2, 1, 0)),
    '16UC4': (2, 4, (2, 1, 0)),
}


def image_to_rgb(
    data: bytes, height: int, width: int, encoding: str, step: int, is_bigendian: bool = False
) -> npt.NDArray[np.uint8]:
    """Any encoding as 8-bit RGB, shape (Y, X, 3), one pixel at a time."""
    rgb = np.zeros((height, width, 3), np.uint8)
    if encoding.startswith('bayer_'):
        pattern, num_bytes = encoding[6:10], int(encoding[10:]) // 8
        mosaic = [
            [sample(data, y * step + x * num_bytes, num_bytes, is_bigendian) for x in range(width)]
            for y in range(height)
        ]
        for y in range(height):
            for x in range(width):
                for c, value in enumerate(demosaic_pixel(mosaic, pattern, y, x)):
                    rgb[y, x, c] = sample_to_8_bit(value, num_bytes)
        return rgb
    for y in range(height):
        for x in range(width):
            if encoding in _SAMPLES:
                num_bytes, channels, order = _SAMPLES[encoding]
                start = y * step + x * channels * num_bytes
                for c in range(3):
                    value = sample(data, start + order[c] * num_bytes, num_bytes, is_bigendian)
                    rgb[y, x, c] = sample_to_8_bit(value, num_bytes)
            else:
                rgb[y, x] = yuv_to_rgb(*yuv_pixel(data, height, encoding, step, y, x))
    return rgb


def sample(data: bytes, position: int, num_bytes: int, is_bigendian: bool) -> int:
    """One sample of 8 or 16 bits."""
    order = 'big' if is_bigendian else 'little'
    return int.from_bytes(data[position : position + num_bytes], order)


def sample_to_8_bit(value: int, num_bytes: int) -> int:
    """16-bit samples scaled so that 65535 becomes 255, to the nearest."""
    return value if num_bytes == 1 else round(value * 255 / 65535)


def yuv_pixel(
    data: bytes, height: int, encoding: str, step: int, y: int, x: int
) -> tuple[int, int, int]:
    """Where the three parts of one pixel lie, by the formats' definitions."""
    pair = y * step + (x // 2) * 4  # 4:2:2: four bytes are two pixels
    if encoding in ('uyvy', 'yuv422'):
        return data[pair + 1 + 2 * (x % 2)], data[pair], data[pair + 2]
    if encoding in ('yuyv', 'yuv422_yuy2'):
        return data[pair + 2 * (x % 2)], data[pair + 1], data[pair + 3]
    luma = data[y * step + x]
    plane = height * step
    if encoding == 'nv24':
        first = plane + y * 2 * step + 2 * x
    else:
        first = plane + (y // 2) * step + 2 * (x // 2)
    if encoding == 'nv21':
        return luma, data[first + 1], data[first]
    return luma, data[first], data[first + 1]


def yuv_to_rgb(y: int, u: int, v: int) -> tuple[int, int, int]:
    """BT.601, video range: black is 16, white is 235, chroma is 16 to 240 around 128."""
    luma = (max(y, 16) - 16) / 219
    blue_difference = (u - 128) / 224 * 2 * (1 - 0.114)
    red_difference = (v - 128) / 224 * 2 * (1 - 0.299)
    red = luma + red_difference
    blue = luma + blue_difference
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    return tuple(min(255, max(0, math.floor(c * 255 + 0.5))) for c in (red, green, blue))


def demosaic_pixel(mosaic: list[list[int]], pattern: str, y: int, x: int) -> tuple[int, int, int]:
    """Bilinear demosaicing: a missing colour is the mean of its neighbours in the 3x3 around.

    Pixels on the border take the value of the nearest pixel that has all its neighbours.
    """
    height, width = len(mosaic), len(mosaic[0])
    y, x = min(max(y, 1), height - 2), min(max(x, 1), width - 2)

    def color_at(row: int, column: int) -> str:
        return pattern[(row % 2) * 2 + column % 2]

    result = []
    for color in 'rgb':
        if color_at(y, x) == color:
            result.append(mosaic[y][x])
            continue
        neighbours = [
            mosaic[row][column]
            for row in range(y - 1, y + 2)
            for column in range(x - 1, x + 2)
            if color_at(row, column) == color
        ]
        result.append(math.floor(sum(neighbours) / len(neighbours) + 0.5))
    return result[0], result[1], result[2]


# --- imaging: rows of samples to the bytes of a message ------------------------------------------


def rows_to_bytes(
    samples: npt.NDArray[np.unsignedinteger], step: int, is_bigendian: bool = False
) -> bytes:
    """Packs an array (rows, ...) of 8- or 16-bit samples, padding rows with 0xAA up to step."""
    dtype = samples.dtype.newbyteorder('>' if is_bigendian else '<')
    packed = b''
    for row in samples:
        content = row.astype(dtype).tobytes()
        packed += content + b'\xaa' * (step - len(content))
    return packed


# --- imaging: resize and normalise ---------------------------------------------------------------


def resize_bilinear(image: npt.NDArray[np.generic], height: int, width: int) -> Array:
    """Bilinear with half-pixel centres, edges repeated; (Y, X, C) to (height, width, C)."""
    source_height, source_width = image.shape[:2]
    result = np.zeros((height, width, image.shape[2]))
    for i in range(height):
        for j in range(width):
            y = (i + 0.5) * source_height / height - 0.5
            x = (j + 0.5) * source_width / width - 0.5
            for row, row_weight in _two_nearest(y, source_height):
                for column, column_weight in _two_nearest(x, source_width):
                    result[i, j] += row_weight * column_weight * image[row, column]
    return result


def resize_area(image: npt.NDArray[np.generic], height: int, width: int) -> Array:
    """Mean of the source under each target pixel; (Y, X, C) to a smaller (height, width, C)."""
    source_height, source_width = image.shape[:2]
    result = np.zeros((height, width, image.shape[2]))
    for i in range(height):
        for j in range(width):
            total = 0.0
            for row in range(source_height):
                for column in range(source_width):
                    area = _overlap(row, i * source_height / height, source_height / height)
                    area *= _overlap(column, j * source_width / width, source_width / width)
                    result[i, j] += area * image[row, column]
                    total += area
            result[i, j] /= total
    return result


def resize_antialias(
    image: npt.NDArray[np.generic], height: int, width: int, is_bicubic: bool
) -> Array:
    """As PIL resizes: a triangle or a cubic kernel, widened by as much as the image shrinks.

    Columns come first. Source pixels outside of the image do not count, and both steps end within
    0..255.
    """
    on_its_side = image.astype(np.float64).transpose(1, 0, 2)
    columns = _resize_axis_antialias(on_its_side, width, is_bicubic).transpose(1, 0, 2)
    return _resize_axis_antialias(columns, height, is_bicubic)


def _resize_axis_antialias(image: Array, size: int, is_bicubic: bool) -> Array:
    scale = len(image) / size
    width = max(scale, 1.0)
    result = np.zeros((size, *image.shape[1:]))
    for i in range(size):
        center = (i + 0.5) * scale
        total = 0.0
        for pixel in range(len(image)):
            x = abs((pixel + 0.5 - center) / width)
            if is_bicubic and x < 1:
                weight = 1.5 * x**3 - 2.5 * x**2 + 1
            elif is_bicubic and x < 2:
                weight = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            else:
                weight = 0.0 if is_bicubic else max(0.0, 1 - x)
            result[i] += weight * image[pixel]
            total += weight
        result[i] /= total
    return np.clip(result, 0, 255)


RESIZE = {
    'bilinear': resize_bilinear,
    'area': resize_area,
    'antialias_bilinear': lambda image, h, w: resize_antialias(image, h, w, is_bicubic=False),
    'antialias_bicubic': lambda image, h, w: resize_antialias(image, h, w, is_bicubic=True),
}


def preprocess(
    rgb: npt.NDArray[np.uint8],
    content_hw: tuple[int, int],
    input_hw: tuple[int, int],
    offset_yx: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    is_bgr: bool = False,
    interpolation: str = 'bilinear',
) -> Array:
    """What the network should get, (3, H, W); mean and std in the network's channel order."""
    content = RESIZE[interpolation](rgb[..., ::-1] if is_bgr else rgb, *content_hw)
    result = np.zeros((3, *input_hw))
    for c in range(3):
        for i in range(content_hw[0]):
            for j in range(content_hw[1]):
                value = (content[i, j, c] - mean[c]) / std[c]
                row, column = offset_yx[0] + i, offset_yx[1] + j
                if 0 <= row < input_hw[0] and 0 <= column < input_hw[1]:
                    result[c, row, column] = value
    return result


def _two_nearest(position: float, size: int) -> list[tuple[int, float]]:
    low = math.floor(position)
    fraction = position - low
    return [(min(max(low, 0), size - 1), 1 - fraction), (min(max(low + 1, 0), size - 1), fraction)]


def _overlap(pixel: int, start: float, length: float) -> float:
    """How much of [pixel, pixel + 1] lies in [start, start + length]."""
    return max(0.0, min(pixel + 1.0, start + length) - max(float(pixel), start))


# --- postprocess: from the model's grid to the pixels of an image --------------------------------


def sample_grid(
    values_HW: npt.NDArray[np.generic],
    input_hw: tuple[int, int],
    content_hw: tuple[int, int],
    offset_yx: tuple[int, int],
    output_hw: tuple[int, int],
    align_corners: bool,
) -> Array:
    """Bilinear value of a grid at every pixel of an image that fills part of the model's input."""
    sampled = np.empty(output_hw)
    for y in range(output_hw[0]):
        for x in range(output_hw[1]):
            positions = []
            for axis, pixel in enumerate((y, x)):
                in_input = (
                    (pixel + 0.5) / output_hw[axis] * content_hw[axis] + offset_yx[axis] - 0.5
                )
                size = values_HW.shape[axis]
                if align_corners:
                    position = in_input * (size - 1) / max(input_hw[axis] - 1, 1)
                else:
                    position = (in_input + 0.5) * size / input_hw[axis] - 0.5
                positions.append(_two_nearest(position, size))
            sampled[y, x] = sum(
                row_weight * column_weight * float(values_HW[row, column])
                for row, row_weight in positions[0]
                for column, column_weight in positions[1]
            )
    return sampled


def mean_iou(
    labels: npt.NDArray[np.generic], truth: npt.NDArray[np.generic], class_ids: list[int]
) -> float:
    """Mean intersection over union of the classes that occur in either image."""
    ious = []
    for class_id in class_ids:
        intersection = union = 0
        for predicted, actual in zip(labels.ravel(), truth.ravel(), strict=True):
            intersection += predicted == class_id and actual == class_id
            union += predicted == class_id or actual == class_id
        if union:
            ious.append(intersection / union)
    return sum(ious) / len(ious)


def own_pixels(
    masks: npt.NDArray[np.generic],
    scores: list[float],
    boxes: list[tuple[float, float, float, float]] | None,
    input_hw: tuple[int, int],
    content_hw: tuple[int, int],
    offset_yx: tuple[int, int],
    output_hw: tuple[int, int],
    masks_tile_boxes: bool = False,
) -> npt.NDArray[np.int64]:
    """Which object each pixel belongs to, counted from 1: the surest whose mask is positive."""
    owners = np.zeros(output_hw, np.int64)
    sampled = [
        sample_grid(mask, input_hw, content_hw, offset_yx, output_hw, False) for mask in masks
    ]
    for y in range(output_hw[0]):
        for x in range(output_hw[1]):
            in_y = (y + 0.5) / output_hw[0] * content_hw[0] + offset_yx[0]
            in_x = (x + 0.5) / output_hw[1] * content_hw[1] + offset_yx[1]
            best = -1.0
            for n, mask in enumerate(masks):
                value = sampled[n][y, x]
                if boxes is not None:
                    left, top, right, bottom = boxes[n]
                    if not (left <= in_x < right and top <= in_y < bottom):
                        continue
                    if masks_tile_boxes:
                        row = (in_y - top) / (bottom - top) * mask.shape[0] - 0.5
                        column = (in_x - left) / (right - left) * mask.shape[1] - 0.5
                        value = _between(mask, row, column)
                if value > 0 and scores[n] > best:
                    best, owners[y, x] = scores[n], n + 1
    return owners


def pasted_mask(
    mask_HW: npt.NDArray[np.generic],
    box: tuple[float, float, float, float],
    size_hw: tuple[int, int],
) -> npt.NDArray[np.bool_]:
    """A box's mask probabilities on the image: bilinear, nothing outside of the box, one half."""
    left, top, right, bottom = box
    height, width = mask_HW.shape
    pasted = np.zeros(size_hw, bool)
    for y in range(size_hw[0]):
        for x in range(size_hw[1]):
            row = (y + 0.5 - top) / (bottom - top) * height - 0.5
            column = (x + 0.5 - left) / (right - left) * width - 0.5
            value = 0.0
            for i in (math.floor(row), math.floor(row) + 1):
                for j in (math.floor(column), math.floor(column) + 1):
                    if 0 <= i < height and 0 <= j < width:
                        value += (1 - abs(row - i)) * (1 - abs(column - j)) * float(mask_HW[i, j])
            pasted[y, x] = value > 0.5
    return pasted


def share_pixels(
    masks: npt.NDArray[np.generic],
    scores: list[float],
    overlap_threshold: float,
    input_hw: tuple[int, int],
    content_hw: tuple[int, int],
    offset_yx: tuple[int, int],
    output_hw: tuple[int, int],
) -> npt.NDArray[np.int64]:
    """Panoptic: every pixel to the highest score times probability; mostly hidden ones go."""
    weighted = [
        score * sample_grid(mask, input_hw, content_hw, offset_yx, output_hw, False)
        for mask, score in zip(1 / (1 + np.exp(-masks)), scores, strict=True)
    ]
    owners = np.zeros(output_hw, np.int64)
    for y in range(output_hw[0]):
        for x in range(output_hw[1]):
            values = [mask[y, x] for mask in weighted]
            owners[y, x] = values.index(max(values)) + 1 if values else 0
    for n, mask in enumerate(weighted):
        own_area = (mask >= 0.5).sum()
        if own_area == 0 or (owners == n + 1).sum() <= overlap_threshold * own_area:
            owners[owners == n + 1] = 0
    return owners


def _between(values_HW: npt.NDArray[np.generic], row: float, column: float) -> float:
    return sum(
        row_weight * column_weight * float(values_HW[i, j])
        for i, row_weight in _two_nearest(row, values_HW.shape[0])
        for j, column_weight in _two_nearest(column, values_HW.shape[1])
    )


# --- backends: boxes -----------------------------------------------------------------------------


def suppress(
    boxes: npt.NDArray[np.generic],
    scores: npt.NDArray[np.generic],
    class_ids: npt.NDArray[np.generic],
    iou_threshold: float,
) -> list[int]:
    """Non-maximum suppression: indices of the boxes that stay, the surest first."""
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        same_class = [k for k in kept if class_ids[k] == class_ids[i]]
        if all(box_iou(boxes[k], boxes[i]) <= iou_threshold for k in same_class):
            kept.append(i)
    return kept


def box_iou(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> float:
    """Intersection over union of two boxes of left, top, right and bottom edges."""
    width = max(0.0, float(min(a[2], b[2]) - max(a[0], b[0])))
    height = max(0.0, float(min(a[3], b[3]) - max(a[1], b[1])))
    areas = [max(0.0, float(x[2] - x[0])) * max(0.0, float(x[3] - x[1])) for x in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


def paint(
    image_YX3: Array, labels_YX: Array, palette_C3: Array, is_shown_C: Array, opacity: float
) -> Array:
    """Class colours blended over an image, outlines solid, pixel by pixel; halves round up."""
    height, width = labels_YX.shape
    painted = image_YX3.copy()
    for y in range(height):
        for x in range(width):
            label = labels_YX[y, x]
            if label >= len(is_shown_C) or not is_shown_C[label]:
                continue
            is_edge = False
            for row, column in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                is_inside = 0 <= row < height and 0 <= column < width
                is_edge |= not is_inside or labels_YX[row, column] != label
            share = 1.0 if is_edge else opacity
            blend = (1.0 - share) * image_YX3[y, x] + share * palette_C3[label]
            painted[y, x] = np.floor(blend + 0.5)
    return painted


def largest_square_side(mask_YX: Array) -> int:
    """Side of the largest square in a mask, by trying all."""
    height, width = mask_YX.shape
    return max(
        (
            side
            for side in range(1, min(height, width) + 1)
            for y in range(height - side + 1)
            for x in range(width - side + 1)
            if mask_YX[y : y + side, x : x + side].all()
        ),
        default=0,
    )
