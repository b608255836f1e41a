"""A small network, exported in every format, and cards for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_perception.models.card import ModelCard, WeightsSource
from seg_perception.models.input_spec import InputSpec
from seg_perception.models.output_spec import OutputSpec
from seg_perception.structures import ClassTable

NUM_CLASSES = 5


class SmallNet(torch.nn.Module):
    """A stride-2 convolution, an upsampling branch, logits at half the input's size."""

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.down = torch.nn.Conv2d(8, 8, 3, 2, 1)
        self.head = torch.nn.Conv2d(16, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to logits (B, C, H/2, W/2)."""
        fine = torch.relu(self.norm(self.stem(x)))
        coarse = torch.nn.functional.interpolate(
            self.down(fine), fine.shape[2:], mode='bilinear', align_corners=False
        )
        return self.head(torch.cat([fine, coarse], 1))


@pytest.fixture
def network() -> SmallNet:
    torch.manual_seed(3)
    return SmallNet().eval()


@pytest.fixture
def make_card() -> Callable[..., ModelCard]:
    def make(
        uri: str = 'small.pth', num_classes: int = NUM_CLASSES, kind: Any = 'logits'
    ) -> ModelCard:
        weights = WeightsSource(uri)
        return ModelCard(
            name='small',
            summary='',
            architecture='small' if weights.format in ('torch', 'safetensors') else None,
            weights=weights,
            input=InputSpec((64, 96)),
            classes=ClassTable(tuple(f'class {i}' for i in range(num_classes))),
            licence='Apache-2.0',
            source='test',
            output=OutputSpec(kind),
        )

    return make


@pytest.fixture
def export_onnx(tmp_path: Path) -> Callable[..., Path]:
    """Writes a network as ONNX; ``dynamic`` leaves batch, height and width open."""
    onnx = pytest.importorskip('onnx', reason='the ONNX exporter (extra onnx) is not installed')
    pytest.importorskip('onnxscript', reason='the ONNX exporter (onnxscript) is not installed')
    pytest.importorskip('onnxruntime', reason='onnxruntime (extra onnx) is not installed')

    def export(
        network: torch.nn.Module,
        example: torch.Tensor,
        *,
        dynamic: bool = False,
        metadata: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / 'small.onnx'
        dims = torch.export.Dim
        shapes = ({0: dims.AUTO, 2: dims.AUTO, 3: dims.AUTO},) if dynamic else None
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the exporter's own deprecations
            torch.onnx.export(
                network,
                (example,),
                str(path),
                dynamo=True,
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
        if metadata:
            model = onnx.load(path)
            onnx.helper.set_model_props(model, metadata)
            onnx.save(model, path)
        return path

    return export
