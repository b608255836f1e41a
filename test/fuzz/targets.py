"""What is fuzzed: every parser of bytes from outside, as functions of bytes, in one table.

A target may raise errors of ``seg_perception.errors`` and nothing else. What it returns is checked
where a wrong answer would be as bad as a crash: shapes, finite numbers.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fuzz import seeds

from seg_perception.backends import RunOptions, load_backend
from seg_perception.errors import InputError
from seg_perception.geometry import depth_to_m
from seg_perception.imaging import check_compressed, check_frame, decode, to_rgb
from seg_perception.imaging.encodings import ENCODINGS
from seg_perception.imaging.picture_files import decode_image, decode_index_mask
from seg_perception.messages.cdr import read_compressed_image, read_image
from seg_perception.models.card import InputSpec, ModelCard, WeightsSource, load_card
from seg_perception.models.graph_facts import read_graph_facts
from seg_perception.models.state_dicts import load_state_dict
from seg_perception.ros import params
from seg_perception.ros.params_values import changed
from seg_perception.sources.bag import BagSource
from seg_perception.sources.calibration import read_calibration
from seg_perception.sources.stills import read_image as read_still
from seg_perception.structures import ClassTable, CompressedFrame, Frame
from seg_perception.training.checkpoint import load_checkpoint
from seg_perception.training.config import config_from_mapping, load_document
from seg_perception.training.datasets import open_dataset

MAX_PIXELS = 2**20
"""Bound on images here, so that the bound on memory can be a tight one."""
DEPTH_ENCODINGS = ('16UC1', 'mono16', '32FC1', 'rgb8')


@dataclass(frozen=True, slots=True)
class Target:
    """One parser.

    Attributes:
        run: parses; raises only errors of ``seg_perception.errors``.
        seeds: valid inputs to start from.
        tokens: what inputs are made of.
        mend: makes a mutated input pass checksums, so that what lies behind them is reached.
        cost: its share of the runs is 1/cost.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    tokens: tuple[bytes, ...] = ()
    mend: Callable[[bytes], bytes] | None = None
    cost: float = 1.0


class _Folder:
    """A folder of this process's own, made when it is first needed."""

    def __init__(self) -> None:
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix='seg_perception_fuzz_'))
            atexit.register(shutil.rmtree, self._path, ignore_errors=True)
        return self._path

    def write(self, name: str, data: bytes) -> Path:
        path = self.path / name
        path.write_bytes(data)
        return path

    def dataset(self, name: str) -> Path:
        """A folder with two photographs and their masks, to which annotations are written."""
        root = self.path / name
        if not root.is_dir():
            (root / 'masks').mkdir(parents=True)
            for name in ('a.png', 'b.png'):
                (root / name).write_bytes(seeds.photograph('.png'))
                (root / 'masks' / name).write_bytes(seeds.index_mask())
            (root / 'm.png').write_bytes(seeds.panoptic_mask())
        return root


_FOLDER = _Folder()
_TFLITE_CARD = ModelCard(
    name='fuzzed',
    summary='',
    architecture=None,
    weights=WeightsSource('model.tflite'),
    input=InputSpec((8, 8)),
    classes=ClassTable(('a', 'b', 'c')),
    licence='Apache-2.0',
    source='test',
)


def _check_rgb(frame: Frame) -> None:
    rgb = to_rgb(frame, max_pixels=MAX_PIXELS)
    assert rgb.shape == (frame.height, frame.width, 3), rgb.shape
    assert rgb.dtype == np.uint8, rgb.dtype


def _cdr_image(data: bytes) -> None:
    frame = read_image(data)
    check_frame(frame, max_pixels=MAX_PIXELS)
    _check_rgb(frame)


def _cdr_compressed(data: bytes) -> None:
    frame = read_compressed_image(data)
    check_compressed(frame, max_pixels=MAX_PIXELS)
    _check_rgb(decode(frame, max_pixels=MAX_PIXELS))


def _headed(data: bytes, encodings: tuple[str, ...]) -> Frame:
    """A frame whose header and pixels are the input's: see ``seeds.headed``."""
    if len(data) < seeds.HEADER.size:
        raise InputError('too short')
    height, width, step, index, is_bigendian = seeds.HEADER.unpack_from(data)
    encoding = encodings[index % len(encodings)]
    return Frame(data[seeds.HEADER.size :], height, width, encoding, step, bool(is_bigendian & 1))


def _raw_image(data: bytes) -> None:
    frame = _headed(data, tuple(ENCODINGS))
    check_frame(frame, max_pixels=MAX_PIXELS)
    _check_rgb(frame)


def _depth(data: bytes) -> None:
    frame = _headed(data, DEPTH_ENCODINGS)
    depth_m = depth_to_m(frame)
    assert depth_m.shape == (frame.height, frame.width), depth_m.shape
    is_valid = np.isfinite(depth_m)
    assert np.isnan(depth_m[~is_valid]).all(), 'neither a distance nor NaN'
    assert (depth_m[is_valid] > 0).all(), 'distances that are not positive'


def _compressed(data: bytes) -> None:
    frame = decode(CompressedFrame(data, ''), max_pixels=MAX_PIXELS)
    size_hw = check_compressed(CompressedFrame(data, ''), max_pixels=MAX_PIXELS)
    assert (frame.height, frame.width) == size_hw, 'decoded to another size than announced'
    _check_rgb(frame)


def _photograph(data: bytes) -> None:
    rgb = decode_image(data, 'input', is_upright=True, max_pixels=MAX_PIXELS)
    assert rgb.ndim == 3, rgb.shape
    assert rgb.shape[2] == 3, rgb.shape


def _still(data: bytes) -> None:
    _check_rgb(read_still(_FOLDER.write('still', data)))


def _index_mask(data: bytes) -> None:
    labels = decode_index_mask(data, 'input', max_pixels=MAX_PIXELS)
    assert labels.ndim == 2, labels.shape


def _model_card(data: bytes) -> None:
    load_card(_FOLDER.write('card.yaml', data))


def _onnx(data: bytes) -> None:
    read_graph_facts(_FOLDER.write('model.onnx', data), 'onnx')


def _tflite(data: bytes) -> None:
    read_graph_facts(_FOLDER.write('model.tflite', data), 'tflite')


def _tflite_backend(data: bytes) -> None:
    path = _FOLDER.write('model.tflite', data)
    load_backend(_TFLITE_CARD, path, RunOptions(device='cpu', num_threads=1)).close()


def _safetensors(data: bytes) -> None:
    load_state_dict(_FOLDER.write('weights.safetensors', data))


def _torch_weights(data: bytes) -> None:
    load_state_dict(_FOLDER.write('weights.pth', data))


def _checkpoint(data: bytes) -> None:
    load_checkpoint(_FOLDER.write('last.safetensors', data))


def _train_config(data: bytes) -> None:
    config_from_mapping(load_document(_FOLDER.write('train.yaml', data)))


def _calibration(data: bytes) -> None:
    intrinsics = read_calibration(_FOLDER.write('camera.yaml', data))
    assert np.isfinite(np.array([*intrinsics.k, *intrinsics.p])).all(), 'not finite'


def _dataset_config(data: bytes) -> None:
    root = _FOLDER.dataset('described')
    document = load_document(_FOLDER.write('dataset.yaml', data))
    _read_all(open_dataset({**document, 'root': str(root)}))


def _coco(data: bytes) -> None:
    root = _FOLDER.dataset('coco')
    (root / 'coco.json').write_bytes(data)
    config = {
        'layout': 'coco',
        'root': str(root),
        'images': '.',
        'masks': '.',
        'annotations': 'coco.json',
        'max_pixels': MAX_PIXELS,
    }
    _read_all(open_dataset(config))


def _labelme(data: bytes) -> None:
    root = _FOLDER.dataset('labelme')
    (root / 'a.json').write_bytes(data)
    config = {
        'layout': 'labelme',
        'unpaired': 'skip',
        'root': str(root),
        'classes': ['background', 'cat', 'dog'],
        'max_pixels': MAX_PIXELS,
    }
    _read_all(open_dataset(config))


def _read_all(dataset: object) -> None:
    for index in range(min(len(dataset), 3)):  # type: ignore[arg-type]
        sample = dataset[index]  # type: ignore[index]
        assert sample.labels_YX.shape == sample.image_YX3.shape[:2], sample.labels_YX.shape


def _bag(data: bytes) -> None:
    bag = BagSource(_FOLDER.write('record.mcap', data))
    try:
        for _, item in zip(range(8), bag.frames(), strict=False):
            if isinstance(item.frame, Frame):
                check_frame(item.frame, max_pixels=MAX_PIXELS)
                _check_rgb(item.frame)
    finally:
        bag.close()


def _fits_a_parameter(value: object) -> bool:
    """Whether ROS can carry it: integers have 64 bits."""
    items = value if isinstance(value, list) else [value]
    return all(type(item) is not int or -(2**63) <= item < 2**63 for item in items)


def _parameters(data: bytes) -> None:
    """The input is JSON: names and values as a parameter service brings them."""
    try:
        changes = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(changes, dict) or not all(map(_fits_a_parameter, changes.values())):
        return
    camera = params.CameraParameters()
    now = params.Parameters(camera={'camera': camera})
    for is_loaded in (False, True):
        changed(now, changes, is_loaded=is_loaded)


_YAML = (b': ', b'\n  ', b'- ', b'&a ', b'*a', b'<<: *a', b'!!python/object/apply:os.system ')
_YAML += (b'!!binary ', b'!!set ', b'? ', b'{', b'}', b'[', b']', b'"', b"'", b'1e999', b'.nan')
_YAML += (b'.inf', b'null', b'~', b'2001-99-99', b'1:60', b'0x', b'\x00', b'\xff', b'true')
_JSON = (b'{', b'}', b'[', b']', b'"', b',', b':', b'null', b'true', b'1e999', b'-1', b'0', b'NaN')
_JSON += (b'Infinity', b'1e308', b'99999999999999999999', b'"\\ud800"', b'1048576')

TARGETS = {
    'cdr_image': Target(
        _cdr_image, seeds.cdr_images, tuple(n.encode() for n in ENCODINGS), cost=0.25
    ),
    'cdr_compressed': Target(_cdr_compressed, seeds.cdr_compressed, cost=0.5),
    'raw_image': Target(_raw_image, seeds.raw_images, cost=0.25),
    'depth_image': Target(_depth, seeds.depth_images, cost=0.25),
    'jpeg': Target(_compressed, seeds.jpegs, (b'\xff\xd9', b'\xff\xda', b'\xff\xc0', b'\xff\xc2')),
    'png': Target(_compressed, seeds.pngs, (b'IDAT', b'IEND', b'PLTE', b'tRNS'), seeds.mend_png),
    'photograph': Target(_photograph, seeds.photographs, mend=seeds.mend_png),
    'still': Target(_still, seeds.photographs, mend=seeds.mend_png, cost=2),
    'index_mask': Target(_index_mask, seeds.index_masks, mend=seeds.mend_png),
    'model_card': Target(_model_card, seeds.model_cards, _YAML, cost=8),
    'train_config': Target(_train_config, seeds.train_configs, _YAML, cost=8),
    'dataset_config': Target(_dataset_config, seeds.dataset_configs, _YAML, cost=4),
    'calibration': Target(_calibration, seeds.calibrations, _YAML, cost=4),
    'coco': Target(_coco, seeds.coco, _JSON, cost=2),
    'labelme': Target(_labelme, seeds.labelme, _JSON, cost=2),
    'parameters': Target(_parameters, seeds.parameters, _JSON),
    'onnx': Target(_onnx, seeds.onnx, cost=4),
    'tflite': Target(_tflite, seeds.tflite, cost=4),
    'tflite_backend': Target(_tflite_backend, seeds.tflite, cost=4),
    'safetensors': Target(_safetensors, seeds.safetensors, _JSON, cost=2),
    'checkpoint': Target(_checkpoint, seeds.checkpoints, _JSON, cost=2),
    'torch_weights': Target(_torch_weights, seeds.torch_weights, mend=seeds.mend_zip, cost=4),
    'mcap': Target(_bag, seeds.mcaps, cost=8),
}
