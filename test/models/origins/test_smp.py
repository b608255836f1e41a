"""Checkpoints of segmentation_models_pytorch label as the library's own networks do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from seg_perception.errors import ModelCardError, ModelNotFoundError, WeightsError
from seg_perception.models import resolve
from seg_perception.pipeline import Segmenter

try:
    import segmentation_models_pytorch as smp
except (ImportError, RuntimeError) as error:  # torchvision's operators are for another torch
    pytest.skip(
        f'segmentation_models_pytorch does not import here: {error}', allow_module_level=True
    )
data = pytest.importorskip('skimage.data', reason='scikit-image is not installed')

IMAGE = np.ascontiguousarray(data.astronaut()[:240, 60:380])
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIPELINE = {
    '__version__': '2.0.8',
    'transform': {
        '__class_fullname__': 'Compose',
        'transforms': [
            {'__class_fullname__': 'Resize', 'height': 160, 'width': 192},
            {
                '__class_fullname__': 'Normalize',
                'mean': list(MEAN),
                'std': list(STD),
                'max_pixel_value': 255.0,
                'normalization': 'standard',
            },
        ],
    },
}


def write(folder: Path, model_class: str = 'Unet', **options: Any) -> torch.nn.Module:
    """A checkpoint as the library writes it, with the pipeline as albumentations does."""
    torch.manual_seed(3)
    options = {'encoder_name': 'resnet18', 'encoder_weights': None, 'classes': 4, **options}
    model: torch.nn.Module = getattr(smp, model_class)(**options).eval()
    with torch.no_grad():
        next(iter(model.segmentation_head.parameters())).normal_(0.0, 1.0)
    model.save_pretrained(folder)
    (folder / 'albumentations_config_eval.json').write_text(json.dumps(PIPELINE))
    return model


@pytest.mark.parametrize('model_class', ['Unet', 'DeepLabV3Plus'])
def test_labels_equal_the_librarys(model_class: str, tmp_path: Path) -> None:
    model = write(tmp_path, model_class)
    (tmp_path / 'classes.txt').write_text('sky\nroad\ncar\nperson\n')
    resized = cv2.resize(IMAGE, (192, 160), interpolation=cv2.INTER_LINEAR)
    pixels = (torch.from_numpy(resized) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        expected = model(pixels.permute(2, 0, 1)[None].float()).argmax(1)[0].numpy()
    assert len(np.unique(expected)) > 1
    with Segmenter(f'smp:{tmp_path}', device='cpu', num_threads=2) as segmenter:
        assert segmenter.classes.names == ('sky', 'road', 'car', 'person')
        assert model_class in segmenter.card.summary
        [result] = segmenter.segment([IMAGE], output_size_hw=(160, 192))
    assert (result.labels_YX == expected).mean() >= 0.999


def test_one_score_for_two_classes(tmp_path: Path) -> None:
    write(tmp_path, classes=1, activation='sigmoid')
    with Segmenter(f'smp:{tmp_path}', device='cpu') as segmenter:
        assert segmenter.classes.names == ('background', 'foreground')
        assert segmenter.card.output.kind == 'probabilities'
        segmenter.segment([IMAGE])


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r'folder with config\.json'):
        resolve(f'smp:{tmp_path}')
    write(tmp_path)
    (tmp_path / 'classes.txt').write_text('a\nb\n')
    with pytest.raises(ModelCardError, match=r'expected 4 names.*got 2'):
        resolve(f'smp:{tmp_path}')
    (tmp_path / 'classes.txt').unlink()
    assert resolve(f'smp:{tmp_path}').classes.names == ('class_0', 'class_1', 'class_2', 'class_3')
    pipeline = tmp_path / 'albumentations_config_eval.json'
    pipeline.write_text(json.dumps(PIPELINE).replace('Resize', 'CLAHE'))
    with pytest.raises(ModelCardError, match='got CLAHE'):
        resolve(f'smp:{tmp_path}')
    pipeline.unlink()
    with pytest.raises(ModelCardError, match='names no pretrained encoder'):
        resolve(f'smp:{tmp_path}')
    pipeline.write_text(json.dumps(PIPELINE))
    config = tmp_path / 'config.json'
    whole = config.read_text()
    config.write_text(json.dumps({**json.loads(whole), '_model_class': 'os.system'}))
    with pytest.raises(ModelCardError, match='_model_class: expected one of unet'):
        Segmenter(f'smp:{tmp_path}', device='cpu')
    config.write_text(json.dumps({**json.loads(whole), 'classes': 5}))
    with pytest.raises(WeightsError, match='of another shape'):
        Segmenter(f'smp:{tmp_path}', device='cpu')
    config.write_text(whole)
    weights = tmp_path / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:-500])
    with pytest.raises(WeightsError, match='not a whole safetensors file'):
        Segmenter(f'smp:{tmp_path}', device='cpu')
    weights.rename(tmp_path / 'pytorch_model.bin')
    with pytest.raises(WeightsError, match='pickled weights can run code'):
        resolve(f'smp:{tmp_path}')
