"""The same objects from every engine that runs a network of several outputs."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rectangle_finder
import torch

from seg_perception.backends import RunOptions, load_backend
from seg_perception.backends.outputs import OutputDecoder
from seg_perception.models.card import ModelCard
from seg_perception.models.output_spec import DecodingOptions, OutputSpec

SIDE = 96
LIBRARIES = {'onnxruntime': 'onnxscript', 'openvino': 'openvino'}


class QueryNet(torch.nn.Module):
    """Queries with masks, as a mapping with more in it, as transformers' models give them."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.masks = torch.nn.Conv2d(3, 7, 9, 4, 4)
        self.masks.weight.data = torch.randn(7, 3, 9, 9, generator=generator)
        self.class_logits = torch.nn.Parameter(torch.randn(7, 4, generator=generator) * 3)

    def forward(self, image_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) to class logits, mask logits and what nobody reads."""
        masks = self.masks(image_B3HW)
        return self.class_logits.expand(masks.shape[0], -1, -1), masks, image_B3HW.mean((1, 2, 3))


NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], OutputSpec]] = {
    'panoptic queries': (
        QueryNet,
        OutputSpec('queries', options=DecodingOptions(task='panoptic', score_threshold=0.3)),
    ),
    'raw anchors': (
        lambda: rectangle_finder.RectangleFinder(is_decoded=False),
        OutputSpec('yolo_seg', options=DecodingOptions(score_threshold=0.3)),
    ),
}


@pytest.fixture(scope='module')
def batch() -> torch.Tensor:
    images = [
        rectangle_finder.draw(SIDE, SIDE, scene)
        for scene in ([(0, 8, 8, 40, 48), (1, 48, 24, 90, 80)], [(2, 16, 40, 60, 90)])
    ]
    return torch.stack([torch.tensor(image).permute(2, 0, 1) / 255 for image in images])


def save(network: torch.nn.Module, batch: torch.Tensor, path: Path) -> Path:
    """Writes the network as a file of its suffix, for any number of images."""
    images = torch.export.Dim('images', min=1, max=8)
    if path.suffix == '.pt2':
        program = torch.export.export(network, (batch,), dynamic_shapes=({0: images},))
        torch.export.save(program, path)
        return path
    pytest.importorskip('onnx', reason='onnx (extra onnx) is not installed')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the exporter's own deprecations
        torch.onnx.export(
            network, (batch,), str(path), dynamo=False, opset_version=17,
            input_names=['images'], dynamic_axes={'images': {0: 'images'}},
        )  # fmt: skip
    return path


@pytest.mark.parametrize(
    ('name', 'suffix', 'engine'),
    [
        *(
            (name, suffix, engine)
            for name in NETWORKS
            for suffix, engine in (
                ('.pt2', 'eager'),
                ('.pt2', 'onnxruntime'),
                ('.pt2', 'openvino'),
                ('.onnx', 'onnxruntime'),
                ('.onnx', 'openvino'),
            )
        ),
        pytest.param('panoptic queries', '.pt2', 'aot', marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # torch's compiler's own, on import
def test_objects_do_not_depend_on_the_engine(
    name: str,
    suffix: str,
    engine: Any,
    batch: torch.Tensor,
    make_card: Callable[..., ModelCard],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if engine in LIBRARIES:
        pytest.importorskip(LIBRARIES[engine], reason=f'{engine} is not installed')
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'inductor'))
    make, output = NETWORKS[name]
    network = make().eval()
    path = save(network, batch, tmp_path / f'network{suffix}')
    card = dataclasses.replace(make_card(str(path), 3), output=output)
    options = RunOptions(device='cpu', engine=engine, num_threads=1, trust_model_code=True)
    backend = load_backend(card, options=options, cache_dir=tmp_path)
    for images in (batch, batch[1:]):
        with torch.inference_mode():
            expected = OutputDecoder(card)(network(images), (SIDE, SIDE), len(images))
        actual = backend.infer(images)
        assert expected.instances is not None
        assert actual.instances is not None
        assert len(actual.instances) == len(images)
        for found, known in zip(actual.instances, expected.instances, strict=True):
            assert len(known.scores_N) >= 1
            assert found.class_ids_N.tolist() == known.class_ids_N.tolist()
            for part in ('scores_N', 'mask_logits_NHW', 'boxes_xyxy_N4'):
                torch.testing.assert_close(
                    getattr(found, part), getattr(known, part), atol=1e-3, rtol=1e-3
                )
    backend.close()
