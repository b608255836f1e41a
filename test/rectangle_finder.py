"""A segmentation model that finds rectangles of pure colours, exported as YOLO models are.

No weights of anybody: it computes what it finds, so what has to come out is known. Every cell of
an object proposes the object's box, as the anchors of a trained model do.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import photographs
import pytest
import torch
import torch.nn.functional as F

CLASSES = ('tomato', 'lime', 'berry')
INPUT_SIDE = 160
NUM_PROTOS = 32
NUM_ROWS = 300

_STRIDE = 4
_PURITY = 0.35
_FAR = 1e4
_METADATA = {
    'description': 'rectangles of pure colours',
    'license': 'Apache-2.0',
    'docs': 'https://example.org/rectangles',
    'stride': '32',
    'task': 'segment',
    'batch': '1',
    'imgsz': f'[{INPUT_SIDE}, {INPUT_SIDE}]',
    'names': str(dict(enumerate(CLASSES))),
    'channels': '3',
}


class RectangleFinder(torch.nn.Module):
    """Finds 4-connected regions where one of red, green and blue stands out.

    Args:
        is_decoded: give the rows of an end-to-end head, one per object, instead of anchors.
    """

    def __init__(self, *, is_decoded: bool) -> None:
        super().__init__()
        self._is_decoded = is_decoded

    def forward(self, image_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """RGB of 0 to 1 to boxes with coefficients, and prototypes, each a colour's purity."""
        small = F.avg_pool2d(image_B3HW, _STRIDE)
        red, green, blue = small.unbind(1)
        purity = torch.stack(
            [
                red - torch.maximum(green, blue),
                green - torch.maximum(red, blue),
                blue - torch.maximum(red, green),
            ],
            1,
        )
        inside = purity > _PURITY
        num_classes, height, width = purity.shape[1:]
        x = torch.arange(width, dtype=torch.float32, device=purity.device).expand_as(purity)
        y = torch.arange(height, dtype=torch.float32, device=purity.device)[:, None]
        y = y.expand_as(purity)
        # left, top, right and bottom of the region that a cell belongs to, and its last cell
        order = y * width + x
        extents = torch.cat([-x, -y, x + 1, y + 1, order], 1)
        everywhere = inside.repeat(1, 5, 1, 1)
        for _ in range(max(height, width)):
            for reach in ((1, 3), (3, 1)):
                extents = torch.where(everywhere, extents, -_FAR)
                extents = F.max_pool2d(extents, reach, 1, (reach[0] // 2, reach[1] // 2))
        left, top, right, bottom, last = (
            (part * inside).sum(1).flatten(1) for part in extents.split(num_classes, 1)
        )
        boxes = torch.stack([-left, -top, right, bottom], 1) * _STRIDE
        scores = (purity * inside).flatten(2)
        coefficients = F.pad(inside.float().flatten(2), (0, 0, 0, NUM_PROTOS - num_classes))
        protos = F.pad(10 * (purity - _PURITY), (0, 0, 0, 0, 0, NUM_PROTOS - num_classes))
        if not self._is_decoded:
            center, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
            return torch.cat([center, size, scores, coefficients], 1), protos
        best, class_ids = scores.max(1)
        # one cell speaks for each region: its last
        is_last = (order * inside).sum(1).flatten(1) == last
        top_scores, cells = (best * is_last).topk(NUM_ROWS, 1)
        rows = torch.cat([boxes, best[:, None], class_ids[:, None].float(), coefficients], 1)
        rows = rows.transpose(1, 2).gather(1, cells[..., None].expand(-1, -1, rows.shape[1]))
        return torch.cat([rows[..., :4], top_scores[..., None], rows[..., 5:]], 2), protos


def export(path: Path, *, is_decoded: bool, **metadata: str | None) -> Path:
    """Writes the ONNX file with an exporter's metadata; None leaves an entry out."""
    onnx = pytest.importorskip('onnx', reason='onnx (extra onnx) is not installed')
    pytest.importorskip('onnxruntime', reason='onnxruntime (extra onnx) is not installed')
    example = torch.zeros(1, 3, INPUT_SIDE, INPUT_SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the exporter's own deprecations
        torch.onnx.export(
            RectangleFinder(is_decoded=is_decoded).eval(),
            (example,),
            str(path),
            dynamo=False,  # takes a quarter of the time, which counts here
            opset_version=17,
            input_names=['images'],
            output_names=['output0', 'output1'],
        )
    model = onnx.load(path)
    entries = _METADATA | {'end2end': str(is_decoded)} | metadata
    onnx.helper.set_model_props(model, {k: v for k, v in entries.items() if v is not None})
    onnx.save(model, path)
    return path


Rectangle = tuple[int, int, int, int, int]
"""Class id, left, top, right and bottom in pixels, the last two exclusive."""


def draw(height: int, width: int, rectangles: list[Rectangle]):
    """A grey photograph with the rectangles on it, (Y, X, 3) RGB."""
    gray = cv2.cvtColor(photographs.astronaut(height, width), cv2.COLOR_RGB2GRAY)
    image = np.repeat(gray[..., None], 3, 2)
    for class_id, left, top, right, bottom in rectangles:
        color = [20, 20, 20]
        color[class_id] = 235
        image[top:bottom, left:right] = color
    return image


def mask_of(rectangle: Rectangle, height: int, width: int):
    """Where it is, (Y, X) bool."""
    _, left, top, right, bottom = rectangle
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask
