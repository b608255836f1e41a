"""Runs ``model.onnx`` in Triton's Python backend, as its ONNX Runtime backend would; for tests.

Triton loads this file as ``model.py``. ``delay_s`` beside it makes the model slow, ``batches``
becomes the sizes of the batches that Triton made, ``hold`` has it wait until that is removed,
``fails`` makes it fail.
"""

from __future__ import annotations

import time
from pathlib import Path


class TritonPythonModel:
    """See Triton's documentation of its Python backend."""

    def initialize(self, args):
        import onnxruntime

        self.folder = Path(args['model_repository']) / args['model_version']
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(self.folder / 'model.onnx'), options, providers=['CPUExecutionProvider']
        )
        self.outputs = [output.name for output in self.session.get_outputs()]

    def execute(self, requests):
        import numpy as np
        import triton_python_backend_utils as triton

        name = self.session.get_inputs()[0].name
        images = [triton.get_input_tensor_by_name(r, name).as_numpy() for r in requests]
        batch = np.concatenate(images)
        with (self.folder / 'batches').open('a') as file:
            file.write(f'{len(batch)}\n')
        while (self.folder / 'hold').exists():
            time.sleep(0.01)
        delay = self.folder / 'delay_s'
        if delay.exists():
            time.sleep(float(delay.read_text()))
        if (self.folder / 'fails').exists():
            raise RuntimeError('the network fell over')
        results = self.session.run(self.outputs, {name: batch})
        starts = np.cumsum([len(image) for image in images])[:-1]
        parts = [np.split(result, starts) for result in results]
        return [
            triton.InferenceResponse(
                [
                    triton.Tensor(output, part[i])
                    for output, part in zip(self.outputs, parts, strict=True)
                ]
            )
            for i in range(len(requests))
        ]
