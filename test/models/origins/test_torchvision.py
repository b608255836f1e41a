"""Models of torchvision label as the library's own transforms and models do."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seg_perception.backends import RunOptions, load_backend
from seg_perception.errors import MissingExtraError, ModelCardError, ModelNotFoundError
from seg_perception.models import ModelCard, resolve
from seg_perception.models.card import WeightsSource
from seg_perception.pipeline import Segmenter
from seg_perception.structures import Frame

try:
    import torchvision
except (ImportError, RuntimeError) as error:  # its operators are for another build of torch
    pytest.skip(f'torchvision does not import here: {error}', allow_module_level=True)
PIL = pytest.importorskip('PIL.Image', reason='Pillow is not installed')
data = pytest.importorskip('skimage.data', reason='scikit-image is not installed')

IMAGE = np.ascontiguousarray(data.astronaut()[:240, 60:380])
SEMANTIC = ('lraspp_mobilenet_v3_large', 'deeplabv3_mobilenet_v3_large', 'fcn_resnet50')


def with_local_weights(card: ModelCard, model: torch.nn.Module, folder: Path) -> ModelCard:
    """The card with weights of ours in place of the published ones."""
    path = folder / 'weights.pth'
    torch.save(model.state_dict(), path)
    weights = WeightsSource(
        str(path), format='torchvision', drop_prefixes=card.weights.drop_prefixes
    )
    return dataclasses.replace(card, weights=weights)


@pytest.mark.parametrize('name', SEMANTIC)
def test_labels_equal_the_librarys(name: str, tmp_path: Path) -> None:
    card = resolve(f'torchvision:{name}')
    assert card.weights.uri.startswith('https://')
    assert len(card.weights.sha256_prefix) >= 8
    assert card.classes.names[15] == 'person'
    torch.manual_seed(2)
    model: Any = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=21, aux_loss=None
    )
    # as the published transforms, but smaller, for the test's sake
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms(resize_size=160)
    assert (card.input.size_hw, card.input.resize) == ((520, 2080), 'shortest_edge')
    card = dataclasses.replace(card, input=dataclasses.replace(card.input, size_hw=(160, 640)))
    # resized by nothing, because random networks make much of a single grey level
    image = np.ascontiguousarray(IMAGE[:160, :213])
    pixels = transforms(PIL.fromarray(image))[None]
    calibrate(model, pixels)
    with torch.no_grad():
        expected = model(pixels)['out'].argmax(1)[0].numpy()
    assert len(np.unique(expected)) > 1
    card = with_local_weights(card, model, tmp_path)
    with Segmenter(card, device='cpu', num_threads=2) as segmenter:
        [result] = segmenter.segment([image])
        [(batch_B3HW, _, _)] = segmenter._preprocessor([Frame.from_array(IMAGE)])
    assert (result.labels_YX == expected).mean() >= 0.999
    grey_levels = (batch_B3HW[0] - transforms(PIL.fromarray(IMAGE))).abs() * 57
    assert grey_levels.max() <= 1.1
    assert (grey_levels > 0.1).float().mean() < 0.005


def calibrate(model: Any, pixels: torch.Tensor) -> None:
    """Gives batch norms statistics and the classes equal means, so that labels vary."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        model.train()(torch.cat([pixels, -0.5 * pixels.flip(3)]))
        model.eval()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.clamp_(min=0.05)
        last = [p for n, p in model.named_parameters() if n.startswith('classifier')][-1]
        last -= model(pixels)['out'].mean((0, 2, 3))


@pytest.mark.slow
def test_mask_rcnn_finds_what_the_library_finds(tmp_path: Path) -> None:
    card = resolve('torchvision:maskrcnn_resnet50_fpn')
    assert card.architecture_options == {'batch_norm_eps': 0.0}
    assert (card.classes.names[0], card.classes.names[1]) == ('__background__', 'person')
    torch.manual_seed(5)
    model: Any = torchvision.models.get_model(
        'maskrcnn_resnet50_fpn', weights=None, weights_backbone=None, min_size=240, max_size=400
    )
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        pixels = torch.from_numpy(IMAGE).permute(2, 0, 1) / 255
        images, _ = model.transform([pixels])
        model.backbone.train()(images.tensors)
        model.eval()
        for norm in norms:
            norm.eps = 0.0
            norm.running_var.clamp_(min=0.01)
        model.roi_heads.box_predictor.cls_score.weight.normal_(0.0, 0.05)
        [expected] = model([pixels])
    assert len(expected['scores']) > 3
    card = dataclasses.replace(
        with_local_weights(card, model, tmp_path),
        input=dataclasses.replace(card.input, size_hw=(240, 400)),
    )
    with Segmenter(card, device='cpu', num_threads=2) as segmenter:
        [(batch_B3HW, _, _)] = segmenter._preprocessor([Frame.from_array(IMAGE)])
        torch.testing.assert_close(
            batch_B3HW[0], images.tensors[0, :, :240, :320], atol=1e-3, rtol=0
        )
        [result] = segmenter.segment([IMAGE])
    with torch.inference_mode():
        backend = load_backend(card, options=RunOptions(device='cpu', channels_last='off'))
        [found] = backend.infer(batch_B3HW).instances or ()
    kept = expected['scores'] >= card.output.options.score_threshold
    assert len(found.scores_N) == int(kept.sum())
    torch.testing.assert_close(found.scores_N, expected['scores'][kept], atol=1e-3, rtol=1e-3)
    assert torch.equal(found.class_ids_N, expected['labels'][kept])
    assert result.objects is not None


def test_names_and_weights_that_are_not_there() -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean 'fcn_resnet50'"):
        resolve('torchvision:fcn_resnet5')
    with pytest.raises(ModelNotFoundError, match='expected one of'):
        resolve('torchvision:resnet50')
    with pytest.raises(ModelNotFoundError, match='COCO_WITH_VOC_LABELS_V1'):
        resolve('torchvision:fcn_resnet50@V9')
    card = resolve('torchvision:fcn_resnet50@COCO_WITH_VOC_LABELS_V1')
    assert card == resolve('torchvision:fcn_resnet50')


def test_an_architecture_that_is_not_there(tmp_path: Path) -> None:
    card = resolve('torchvision:lraspp_mobilenet_v3_large')
    model = torchvision.models.get_model(card.architecture, weights=None, weights_backbone=None)
    card = with_local_weights(card, model, tmp_path)
    wrong = dataclasses.replace(card, architecture='lraspp')
    with pytest.raises(ModelCardError, match='expected one of'):
        load_backend(wrong, options=RunOptions(device='cpu'))


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, 'torchvision', None)
    with pytest.raises(MissingExtraError, match=r'seg_perception\[torchvision\]'):
        resolve('torchvision:fcn_resnet50')
