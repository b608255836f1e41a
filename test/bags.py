"""Recordings for tests: two cameras that move over a real photograph, and a chatter topic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from seg_perception.geometry import Intrinsics
from seg_perception.imaging import encode
from seg_perception.messages.cdr import write_image
from seg_perception.messages.described import write_camera_info
from seg_perception.structures import Frame

STORE = get_typestore(Stores.ROS2_JAZZY)
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
LAG_NS = 7_000_000
"""Between an image's stamp and when it was recorded."""
SIZE_WH = (160, 120)
INTRINSICS = Intrinsics(
    SIZE_WH,
    (150.0, 0.0, 80.0, 0.0, 150.0, 60.0, 0.0, 0.0, 1.0),
    (150.0, 0.0, 80.0, 0.0, 0.0, 150.0, 60.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    'plumb_bob',
    (0.1, 0.0, 0.0, 0.0, 0.0),
)
FRONT, REAR = '/front/image_raw', '/rear/image_raw/compressed'


def view(image_rgb: np.ndarray, index: int) -> np.ndarray:
    """A window of the photograph that moves with the index."""
    width, height = SIZE_WH
    top = index * 7 % (image_rgb.shape[0] - height)
    left = index * 11 % (image_rgb.shape[1] - width)
    return np.ascontiguousarray(image_rgb[top : top + height, left : left + width])


def messages(image_rgb: np.ndarray, num: int):
    """Topic, type, time of recording and bytes, by time."""
    header = STORE.types['std_msgs/msg/Header']
    stamp = STORE.types['builtin_interfaces/msg/Time']
    compressed = STORE.types['sensor_msgs/msg/CompressedImage']
    text = STORE.types['std_msgs/msg/String']
    for i in range(num):
        stamp_ns = START_NS + i * PERIOD_NS
        log_ns = stamp_ns + LAG_NS
        pixels = view(image_rgb, i)
        bgr = write_image(pixels[..., ::-1], 'bgr8', stamp_ns, 'front_optical')
        yield FRONT, 'sensor_msgs/msg/Image', log_ns, bgr.tobytes()
        info = write_camera_info(INTRINSICS, stamp_ns, 'front_optical')
        yield '/front/camera_info', 'sensor_msgs/msg/CameraInfo', log_ns + 1000, info.tobytes()
        if i % 2 == 0:
            frame = Frame.from_array(view(image_rgb, i + 40), 'rgb8')
            message = compressed(
                header(stamp(stamp_ns // 10**9, stamp_ns % 10**9), 'rear_optical'),
                'rgb8; jpeg compressed bgr8',
                np.frombuffer(encode(frame), np.uint8),
            )
            kind = 'sensor_msgs/msg/CompressedImage'
            yield REAR, kind, log_ns + 2000, bytes(STORE.serialize_cdr(message, kind))
        kind = 'std_msgs/msg/String'
        yield '/chatter', kind, log_ns + 3000, bytes(STORE.serialize_cdr(text(f'{i}'), kind))


def write_bag(
    path: Path,
    recorded,
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """Writes messages as a recording of one file."""
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for topic, kind, log_ns, data in recorded:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], log_ns, data)
    return path


def write_split_bag(path: Path, recorded, num_files: int, **more) -> Path:
    """As `write_bag`, in several files, as rosbag2 splits them."""
    recorded = list(recorded)
    size = -(-len(recorded) // num_files)
    path.mkdir()
    files, topics = [], {}
    for i in range(num_files):
        part = write_bag(path / f'part_{i}', recorded[i * size : (i + 1) * size], **more)
        about = yaml.safe_load((part / 'metadata.yaml').read_text())
        about = about['rosbag2_bagfile_information']
        for topic in about['topics_with_message_count']:
            name = topic['topic_metadata']['name']
            before = topics.setdefault(name, {**topic, 'message_count': 0})
            before['message_count'] += topic['message_count']
        files += about['files']
        for name in about['relative_file_paths']:
            (part / name).rename(path / name)
        (part / 'metadata.yaml').unlink()
        part.rmdir()
    about |= {
        'relative_file_paths': [file['path'] for file in files],
        'files': files,
        'message_count': len(recorded),
        'topics_with_message_count': list(topics.values()),
        'starting_time': files[0]['starting_time'],
        'duration': {'nanoseconds': recorded[-1][2] - recorded[0][2]},
    }
    document = {'rosbag2_bagfile_information': about}
    (path / 'metadata.yaml').write_text(yaml.safe_dump(document))
    return path


def read_bag(path: Path) -> list[tuple[str, str, int, bytes]]:
    """Topic, type, time of recording and bytes of all messages, in their order."""
    with Reader(path) as reader:
        return [(c.topic, c.msgtype, time_ns, data) for c, time_ns, data in reader.messages()]


def write_color_model(folder: Path) -> Path:
    """A real ONNX model that tells five classes apart by colour; returns its card."""
    onnx = pytest.importorskip('onnx', reason="onnx (extra 'onnx') is not installed")
    pytest.importorskip('onnxruntime', reason="onnxruntime (extra 'onnx') is not installed")
    helper, of = onnx.helper, onnx.numpy_helper.from_array
    classes = ['background', 'red', 'green', 'blue', 'light']
    colors = np.array([[-2, -2, -2], [2, -1, -1], [-1, 2, -1], [-1, -1, 2], [1, 1, 1]], 'f4')
    conv = helper.make_node('Conv', ['image', 'weight', 'bias'], ['scores'], strides=[4, 4])
    bias = np.array([-0.5, 0, 0, 0, -0.5], np.float32)
    graph = helper.make_graph(
        [conv],
        'colors',
        [helper.make_tensor_value_info('image', onnx.TensorProto.FLOAT, ['batch', 3, 96, 128])],
        [helper.make_tensor_value_info('scores', onnx.TensorProto.FLOAT, ['batch', 5, 24, 32])],
        [of(colors[:, :, None, None], 'weight'), of(bias, 'bias')],
    )
    opset = [helper.make_opsetid('', 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    (folder / 'colors.onnx').write_bytes(model.SerializeToString())
    card = {
        'name': 'colors',
        'summary': 'classes by colour',
        'weights': {'uri': 'colors.onnx'},
        'input': {
            'size_hw': [96, 128],
            'resize': 'stretch',
            'mean_rgb': [127.5] * 3,
            'std_rgb': [127.5] * 3,
        },
        'output': {'kind': 'logits'},
        'classes': {'names': classes},
        'licence': 'CC0-1.0',
        'source': 'https://example.com',
    }
    path = folder / 'colors.yaml'
    path.write_text(yaml.safe_dump(card))
    return path
