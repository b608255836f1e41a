#!/usr/bin/env python3
"""Makes float weights of the ADE20K-31 network from MLPerf's int8 TFLite file.

    curl -LO https://github.com/mlcommons/mobile_models/raw/\
1f9963316b81a63fdef1040133ae64f6e8879c5b/v0_7/tflite/deeplabv3_mnv2_ade20k_int8.tflite
    pip install ai-edge-litert
    python tools/convert_mlperf_ade20k31.py deeplabv3_mnv2_ade20k_int8.tflite \
        deeplabv3plus_mobilenetv2.safetensors

The file (Apache-2.0, MLCommons mobile_models v0.7) is a DeepLabV3+ MobileNetV2 with one scale per
output channel. Its weights and biases, times their scales, are the float network's up to the
rounding of training with quantisation; batch norm is folded. Keys are short names that the card
``deeplabv3plus_mobilenetv2.ade20k31`` maps to the network's, and the card holds the SHA-256 of
the result, which is the same bit for bit everywhere.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter
from safetensors.numpy import save

TFLITE_SHA256 = '3960571f5e2de1cec771a8f7a15b86f31b94cceccac8d993addbc1e29829de6a'
NUM_BLOCKS = 17

F32 = npt.NDArray[np.float32]


class ConversionError(Exception):
    """The TFLite file is not the one expected."""


def layer_scopes() -> dict[str, str]:
    """Key of each convolution in the result, and its scope in the TensorFlow graph."""
    scopes = {'stem': 'MobilenetV2/Conv'}
    for index in range(NUM_BLOCKS):
        scope = 'MobilenetV2/expanded_conv' + (f'_{index}' if index else '')
        if index:
            scopes[f'blocks.{index}.expand'] = f'{scope}/expand'
        scopes[f'blocks.{index}.dw'] = f'{scope}/depthwise'
        scopes[f'blocks.{index}.project'] = f'{scope}/project'
    scopes |= {'pool': 'image_pooling', 'aspp0': 'aspp0', 'proj': 'concat_projection'}
    scopes['low'] = 'decoder/feature_projection0'
    for index in range(2):
        scopes[f'd{index}dw'] = f'decoder/decoder_conv{index}_depthwise'
        scopes[f'd{index}pw'] = f'decoder/decoder_conv{index}_pointwise'
    return scopes | {'logits': 'logits/semantic'}


def convert(model: bytes) -> bytes:
    """The safetensors file's bytes.

    Raises:
        ConversionError: another file.
    """
    sha256 = hashlib.sha256(model).hexdigest()
    if sha256 != TFLITE_SHA256:
        raise ConversionError(
            f'expected deeplabv3_mnv2_ade20k_int8.tflite with SHA-256 {TFLITE_SHA256}, '
            f'got {sha256}'
        )
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    tensors = {tensor['index']: tensor for tensor in interpreter.get_tensor_details()}
    found: dict[str, tuple[F32, F32]] = {}
    for operation in interpreter._get_ops_details():
        is_depthwise = operation['op_name'] == 'DEPTHWISE_CONV_2D'
        if operation['op_name'] != 'CONV_2D' and not is_depthwise:
            continue
        _, weight, bias = (tensors[index] for index in operation['inputs'])
        name = tensors[operation['outputs'][0]]['name']
        # (out, row, column, in), or (1, row, column, channel) of a depthwise convolution
        axes = (3, 0, 1, 2) if is_depthwise else (0, 3, 1, 2)
        values = _dequantise(interpreter, weight).transpose(axes)
        found[name] = (np.ascontiguousarray(values), _dequantise(interpreter, bias))
    state: dict[str, F32] = {}
    for key, scope in layer_scopes().items():
        (name,) = (name for name in found if name.startswith(f'{scope}/'))
        state[f'{key}.c.weight'], state[f'{key}.c.bias'] = found[name]
    return save(dict(sorted(state.items())))


def _dequantise(interpreter: Interpreter, tensor: dict[str, Any]) -> F32:
    stored = interpreter.get_tensor(tensor['index']).astype(np.float64)
    quantisation = tensor['quantization_parameters']
    shape = [1] * stored.ndim
    if len(quantisation['scales']) > 1:
        shape[quantisation['quantized_dimension']] = -1
    scales = quantisation['scales'].astype(np.float64).reshape(shape)
    return ((stored - quantisation['zero_points'].reshape(shape)) * scales).astype(np.float32)


def main() -> int:
    """Runs the conversion from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('model', type=Path, help='deeplabv3_mnv2_ade20k_int8.tflite')
    parser.add_argument('output', type=Path, help='the .safetensors file to write')
    arguments = parser.parse_args()
    try:
        data = convert(arguments.model.read_bytes())
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
