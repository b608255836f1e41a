"""Valid inputs that fuzzing starts from, made here: small, and of every kind a parser knows.

Also what makes a changed input pass the checksums of its format.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import yaml

from seg_perception.imaging.encodings import ENCODINGS
from seg_perception.messages.cdr import write_image

HEADER = struct.Struct('<HHHBB')
"""Height, width, step, index of the encoding and byte order of an image, before its pixels."""
_CORPUS = Path(__file__).parent / 'corpus'


def found(target: str) -> list[bytes]:
    """Inputs that a target once failed on, and seeds that are not made here."""
    return [path.read_bytes() for path in sorted((_CORPUS / target).glob('*'))]


def pixels(height: int = 6, width: int = 8, channels: int = 3, dtype: type = np.uint8):
    """The same noise every time."""
    values = np.random.default_rng(height * width).integers(
        0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True
    )
    return values[..., 0] if channels == 1 else values


def encoded(suffix: str, image: np.ndarray, *options: int) -> bytes:
    is_made, data = cv2.imencode(suffix, image, list(options))
    assert is_made, suffix
    return data.tobytes()


def photograph(suffix: str) -> bytes:
    return encoded(suffix, pixels())


def index_mask() -> bytes:
    return encoded('.png', pixels(channels=1) % 3)


def panoptic_mask() -> bytes:
    return encoded('.png', np.repeat(pixels(channels=1)[..., None] % 2 + 1, 3, axis=2))


def cdr_images() -> list[bytes]:
    images = [write_image(pixels(), 'rgb8', 1_700_000_000_000_000_000, 'camera')]
    images.append(write_image(pixels(channels=1), 'bayer_rggb8', -1, ''))
    images.append(write_image(pixels(channels=1, dtype=np.uint16), 'mono16', 5, 'é'))
    images.append(write_image(pixels(channels=2), 'uyvy', 5, 'c'))
    return [bytes(image) for image in images]


def cdr_compressed() -> list[bytes]:
    def message(text: bytes, data: bytes) -> bytes:
        body = struct.pack('<iII', 5, 6, 2) + b'c\0'
        body += b'\0' * (-len(body) % 4) + struct.pack('<I', len(text) + 1) + text + b'\0'
        body += b'\0' * (-len(body) % 4) + struct.pack('<I', len(data)) + data
        return b'\x00\x01\x00\x00' + body

    return [
        message(b'rgb8; jpeg compressed bgr8', photograph('.jpg')),
        message(b'png', photograph('.png')),
        message(b'bayer_rggb8; png compressed ', index_mask()),
    ]


def headed(image: np.ndarray, step: int, index: int) -> bytes:
    return HEADER.pack(*image.shape[:2], step, index, 0) + image.tobytes()


def raw_images() -> list[bytes]:
    images = []
    for index, encoding in enumerate(ENCODINGS.values()):
        size = encoding.num_bytes(6, 8 * encoding.bytes_per_pixel)
        header = HEADER.pack(6, 8, 8 * encoding.bytes_per_pixel, index, index % 2)
        images.append(header + pixels(1, size, 1).tobytes())
    return images


def depth_images() -> list[bytes]:
    metres = np.linspace(-1, 5, 48, dtype=np.float32).reshape(6, 8)
    metres[0, :3] = np.nan, np.inf, 0
    return [
        headed(pixels(channels=1, dtype=np.uint16), 16, 0),
        headed(pixels(channels=1, dtype=np.uint16), 16, 1),
        headed(metres, 32, 2),
    ]


def jpegs() -> list[bytes]:
    return [
        photograph('.jpg'),
        encoded('.jpg', pixels(channels=1)),
        encoded('.jpg', pixels(20, 30), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded('.jpg', pixels(20, 30), cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        *found('jpeg'),
    ]


def pngs() -> list[bytes]:
    return [
        photograph('.png'),
        encoded('.png', pixels(channels=4)),
        encoded('.png', pixels(channels=3, dtype=np.uint16)),
        encoded('.png', pixels(channels=1) % 2, cv2.IMWRITE_PNG_BILEVEL, 1),
        index_mask(),
        *found('png'),
    ]


def photographs() -> list[bytes]:
    jpeg = photograph('.jpg')
    turned = b'II*\0' + struct.pack('<IHHHII', 8, 1, 0x0112, 3, 1, 6)
    exif = b'Exif\0\0' + turned
    segment = b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif
    others = [photograph(suffix) for suffix in ('.bmp', '.ppm', '.tiff', '.webp')]
    return [jpeg[:2] + segment + jpeg[2:], *pngs(), *others, *found('photograph')]


def index_masks() -> list[bytes]:
    mask = index_mask()
    palette = _chunk(b'PLTE', bytes(range(9)))
    # The header's colour type becomes "palette", and the palette follows it.
    indexed = mask[:25] + b'\x03' + mask[26:33] + palette + mask[33:]
    others = [encoded(suffix, pixels(channels=1) % 3) for suffix in ('.bmp', '.tiff')]
    return [mask, mend_png(indexed), *others, *found('index_mask')]


def model_cards() -> list[bytes]:
    from seg_perception.models.catalog import card_paths

    # The shortest ones: mutations hit fields, not lists of names.
    texts = sorted((path.read_bytes() for path in card_paths().values()), key=len)
    return [*texts[:3], *found('model_card')]


def train_configs() -> list[bytes]:
    text = """\
name: a
summary: b
model: {init: deeplabv3_mobilenetv2.voc21, architecture_options: {x: 1}}
input: {size_hw: [288, 384], resize: fit, mean_rgb: [1, 2.5, 3]}
data: {layout: camvid, root: data, train: {split: train}, val: {split: val}}
augmentation: {scale: [0.75, 1.5], flip: 0.5}
loss: {cross_entropy: 1.0}
optimizer: {name: adamw, lr: 1e-3}
schedule: {name: poly, power: 0.9}
training: {epochs: 12, batch_size: 8}
"""
    return [text.encode(), *found('train_config')]


def dataset_configs() -> list[bytes]:
    documents = [
        {'layout': 'folders', 'classes': ['x', 'y', 'z']},
        {'layout': 'folders', 'source_classes': ['x', 'y', 'z'], 'remap': {'x': 'ignore'}},
        {'layout': 'folders', 'classes': {'x': [0, 1, 2], 'y': [3, 4, 5]}, 'void_ids': [2]},
    ]
    for document in documents:
        document |= {'images': '.', 'masks': 'masks', 'unpaired': 'skip', 'root': '.'}
        document.setdefault('void_ids', [255])
        document |= {'holdout': {'part': 'val', 'share': 0.5}, 'every': 1}
    return [*(yaml.safe_dump(d).encode() for d in documents), *found('dataset_config')]


def calibrations() -> list[bytes]:
    def matrix(rows: int, columns: int) -> dict[str, object]:
        data = [float(i % (columns + 1) == 0) for i in range(rows * columns)]
        return {'rows': rows, 'cols': columns, 'data': data}

    document = {
        'image_width': 64,
        'image_height': 48,
        'camera_name': 'front',
        'distortion_model': 'plumb_bob',
        'camera_matrix': matrix(3, 3),
        'distortion_coefficients': matrix(1, 5),
        'rectification_matrix': matrix(3, 3),
        'projection_matrix': matrix(3, 4),
    }
    return [yaml.safe_dump(document).encode(), *found('calibration')]


def coco() -> list[bytes]:
    image = {'id': 1, 'file_name': 'a.png', 'height': 6, 'width': 8}
    categories = [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}]
    polygon = {'segmentation': [[0, 0, 5, 0, 5, 5]], 'id': 1, 'image_id': 1, 'category_id': 1}
    runs = {'size': [6, 8], 'counts': [3, 10, 35]}
    packed = {'size': [6, 8], 'counts': '=33000a0'}  # rows 1 to 3, columns 2 to 4
    annotations = [polygon, {**polygon, 'segmentation': runs}, {**polygon, 'segmentation': packed}]
    shared = {'images': [image], 'categories': categories}
    segments = [{'id': 65793, 'category_id': 1}, {'id': 131586, 'category_id': 2}]
    panoptic = {'image_id': 1, 'file_name': 'm.png', 'segments_info': segments}
    documents = [{**shared, 'annotations': [a]} for a in annotations]
    documents += [{**shared, 'annotations': annotations[:2]}]
    documents += [{**shared, 'annotations': [panoptic]}]
    return [*(json.dumps(d).encode() for d in documents), *found('coco')]


def labelme() -> list[bytes]:
    import base64

    def shape(kind: str, points: list[list[float]], **fields: str) -> dict[str, object]:
        return {'label': 'cat', 'shape_type': kind, 'points': points, **fields}

    mask = base64.b64encode(encoded('.png', np.full((3, 4), 255, np.uint8))).decode()
    shapes = [
        shape('polygon', [[0, 0], [5, 0], [5, 5.5]]),
        shape('rectangle', [[1, 1], [3, 3]]),
        shape('circle', [[3, 3], [4, 4]]),
        shape('mask', [[1, 1], [4, 3]], mask=mask),
    ]
    shared = {'imagePath': 'a.png', 'imageHeight': 6, 'imageWidth': 8}
    documents = [{**shared, 'shapes': [s]} for s in shapes] + [{**shared, 'shapes': shapes[:2]}]
    carried = base64.b64encode(photograph('.png')).decode()
    documents.append({**shared, 'imagePath': '', 'imageData': carried, 'shapes': []})
    return [*(json.dumps(d).encode() for d in documents), *found('labelme')]


def parameters() -> list[bytes]:
    from seg_perception.ros import options, params

    defaults = {name: default for name, default, _ in options.rows(params.Parameters)}
    camera = {f'camera.{n}': d for n, d, _ in options.rows(params.CameraParameters)}
    parts = [dict([item]) for item in (defaults | camera).items()]
    return [*(json.dumps(part).encode() for part in parts), *found('parameters')]


def onnx() -> list[bytes]:
    import onnx as onnx_lib
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 3, 8, 8])
    output = helper.make_tensor_value_info('logits', TensorProto.FLOAT, [1, 2, 8, 8])
    weights = helper.make_tensor('w', TensorProto.FLOAT, [2, 3, 1, 1], [0.1] * 6)
    node = helper.make_node('Conv', ['image', 'w'], ['logits'])
    graph = helper.make_graph([node], 'g', [image], [output], [weights])
    opset = [helper.make_opsetid('', 17)]
    model = helper.make_model(graph, ir_version=8, opset_imports=opset)
    onnx_lib.helper.set_model_props(model, {'names': "{0: 'a', 1: 'b'}"})
    named = model.SerializeToString()
    card = model_cards()[0].decode()
    onnx_lib.helper.set_model_props(model, {'seg_perception_card': card})
    return [named, model.SerializeToString(), *found('onnx')]


def tflite() -> list[bytes]:
    """One tensor, in and out."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer = [1, 8, 8, 3], schema.TensorType.FLOAT32, 0
    tensor.name = 'image'
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [0], [0], []
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    model.operatorCodes = []
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b'TFL3')
    return [bytes(builder.Output()), *found('tflite')]


def _tensors():
    import torch

    return {'a.weight': torch.arange(6.0).reshape(2, 3), 'a.bias': torch.ones(2)}


def safetensors() -> list[bytes]:
    from safetensors.torch import save

    return [save(_tensors()), save(_tensors(), {'k': 'v'}), *found('safetensors')]


@lru_cache
def checkpoints() -> list[bytes]:
    from seg_perception.training.checkpoint import save_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'last.safetensors')
        save_checkpoint(path, {'model': _tensors()}, {'epoch': 3, 'best': 0.5})
        return [path.read_bytes(), *found('checkpoint')]


def torch_weights() -> list[bytes]:
    import torch

    written = []
    for content in (_tensors(), {'state_dict': _tensors()}):
        stream = io.BytesIO()
        torch.save(content, stream)
        written.append(stream.getvalue())
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=False)
        written.append(stream.getvalue())
    return [*written, *found('torch_weights')]


@lru_cache
def mcaps() -> list[bytes]:
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'bag')
        kind = 'sensor_msgs/msg/Image'
        with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            connection = writer.add_connection('/camera/image_raw', kind, typestore=store)
            for stamp_ns in range(2):
                writer.write(connection, stamp_ns, cdr_images()[0])
        return [next(path.glob('*.mcap')).read_bytes(), *found('mcap')]


def mend_png(data: bytes) -> bytes:
    """The same PNG with the right checksum behind every chunk that is whole; others unchanged."""
    if data[:8] != b'\x89PNG\r\n\x1a\n':
        return data
    parts, position = [data[:8]], 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from('>I', data, position)
        end = position + 12 + length
        if end > len(data):
            break
        parts.append(_chunk(data[position + 4 : position + 8], data[position + 8 : end - 4]))
        position = end
    return b''.join([*parts, data[position:]])


def mend_zip(data: bytes) -> bytes:
    """The same members, whole again with the right checksums; unchanged where none can be read."""
    stream = io.BytesIO()
    try:
        with (
            zipfile.ZipFile(io.BytesIO(data)) as broken,
            zipfile.ZipFile(stream, 'w', zipfile.ZIP_STORED) as whole,
        ):
            for info in broken.infolist():
                start = info.header_offset
                name_length, extra_length = struct.unpack_from('<HH', data, start + 26)
                start += 30 + name_length + extra_length
                content = data[start : start + min(info.file_size, len(data))]
                whole.writestr(zipfile.ZipInfo(info.filename), content)
    except (zipfile.BadZipFile, struct.error, ValueError, OSError, NotImplementedError):
        return data
    return stream.getvalue()


def _chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)
