"""Models of transformers label as the library's own processors and models do; others are refused.

The models are small and random, written by the library's own ``save_pretrained``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.errors import (
    ConfigurationError,
    MissingExtraError,
    ModelCardError,
    ModelNotFoundError,
    WeightsError,
)
from seg_perception.imaging.resize_plan import plan_resize
from seg_perception.models import resolve
from seg_perception.models.origins import hf_input
from seg_perception.models.origins.hf_families import FAMILIES
from seg_perception.models.origins.hf_wrappers import window_starts
from seg_perception.pipeline import Segmenter

hf = pytest.importorskip('transformers', reason='transformers (extra hf) is not installed')
data = pytest.importorskip('skimage.data', reason='scikit-image is not installed')

import tiny_transformers as tiny  # noqa: E402

# Twice the size that the short side becomes for models with a crop, so that its edges lie on
# pixels' edges; the library stretches labels of a crop over whatever size it is asked for.
IMAGE = np.ascontiguousarray(data.astronaut()[:272, 60:400])
SQUARE = np.ascontiguousarray(IMAGE[:, :272])
MIN_AGREEMENT = 0.999

Write = Callable[..., tuple[Path, Any]]


@pytest.fixture(autouse=True)
def quiet_library() -> None:
    hf.utils.logging.disable_progress_bar()
    hf.utils.logging.set_verbosity_error()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a small model; gives its folder and, read back by the library, the model."""

    def write(name: str, folder: str = '', **processor_options: Any) -> tuple[Path, Any]:
        path = tmp_path / (folder or name)
        path.mkdir()
        model_class = type(tiny.write(name, path, **processor_options))
        return path, model_class.from_pretrained(path).eval()

    return write


def labels_of_library(
    folder: Path, model: Any, image: np.ndarray, target_hw: tuple[int, int]
) -> np.ndarray:
    """Labels by the library's own processor, model and post-processing."""
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    options = {}
    if 'OneFormer' in type(model).__name__:
        tokenizer = hf.AutoTokenizer.from_pretrained(folder)
        whole = hf.OneFormerProcessor(processor, tokenizer, task_seq_length=77)
        options['task_inputs'] = whole._preprocess_text(['the task is semantic'], 77)
    inputs = processor(images=image, return_tensors='pt')
    # an empty list of offsets is what EoMT's processor gives where it does not split
    if inputs.get('patch_offsets'):
        options['patch_offsets'] = inputs['patch_offsets']
    with torch.no_grad():
        output = model(pixel_values=inputs['pixel_values'], **options)
    [labels] = processor.post_process_semantic_segmentation(output, target_sizes=[target_hw])
    return np.asarray(labels)


@pytest.mark.parametrize('name', list(tiny.MAKERS))
def test_labels_equal_the_librarys(name: str, write: Write) -> None:
    folder, model = write(name)
    # the library's semantic post-processing forgets that EoMT's images are padded
    image = SQUARE if name == 'eomt' else IMAGE
    with Segmenter(f'hf:{folder}', device='cpu', num_threads=1) as segmenter:
        assert segmenter.classes.names == tuple(tiny.LABELS.values())
        assert FAMILIES[segmenter_type(folder)].title in segmenter.card.summary
        geometry = segmenter._preprocessor.plan(image.shape[:2])
        [result] = segmenter.segment([image])
    rows, columns = geometry.seen_in(image.shape[:2])
    seen_hw = (rows.stop - rows.start, columns.stop - columns.start)
    expected = labels_of_library(folder, model, image, seen_hw)
    labels = result.labels_YX[rows, columns]
    assert len(np.unique(expected)) > 1
    assert (labels == expected).mean() >= MIN_AGREEMENT
    assert result.confidence_YX is not None
    if geometry.is_cropped:  # what the model did not see has no label
        assert seen_hw[1] < image.shape[1]
        unseen = np.ones(result.labels_YX.shape, bool)
        unseen[rows, columns] = False
        assert (result.labels_YX[unseen] == 255).all()
        assert (result.confidence_YX[unseen] == 0).all()


def segmenter_type(folder: Path) -> str:
    return str(json.loads((folder / 'config.json').read_text())['model_type'])


@pytest.mark.parametrize('image', [IMAGE, IMAGE.transpose(1, 0, 2), SQUARE])
def test_windows_along_the_longer_side(image: np.ndarray, write: Write) -> None:
    size = {'shortest_edge': 64, 'longest_edge': None}
    folder, model = write('eomt', size=size, do_pad=False, do_split_image=True)
    image = np.ascontiguousarray(image)
    with Segmenter(f'hf:{folder}', device='cpu', num_threads=1) as segmenter:
        [result] = segmenter.segment([image])
    expected = labels_of_library(folder, model, image, image.shape[:2])
    assert (result.labels_YX == expected).mean() >= MIN_AGREEMENT
    assert window_starts(80, 64) == [0, 16]
    assert window_starts(150, 64) == [0, 43, 86]
    with pytest.raises(ModelNotFoundError, match='expected #semantic'):
        resolve(f'hf:{folder}#panoptic')


def test_padding_of_eomt_is_taken_off(write: Write) -> None:
    folder, model = write('eomt')
    with Segmenter(f'hf:{folder}', device='cpu', num_threads=1) as segmenter:
        [result] = segmenter.segment([IMAGE])
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    pixels = processor(images=IMAGE, return_tensors='pt')['pixel_values']
    with torch.no_grad():
        output = model(pixel_values=pixels)
        masks = torch.nn.functional.interpolate(
            output.masks_queries_logits, (64, 64), mode='bilinear'
        ).sigmoid()
        classes = output.class_queries_logits.softmax(-1)[..., :-1]
        scores = torch.einsum('bqc,bqhw->bchw', classes, masks)
        height = 51  # 64 * 272 / 340
        assert (pixels[0, :, height:] == pixels[0, :, -1:, -1:]).all()
        expected = torch.nn.functional.interpolate(
            scores[:, :, :height], IMAGE.shape[:2], mode='bilinear'
        ).argmax(1)[0]
    assert (result.labels_YX == expected.numpy()).mean() >= MIN_AGREEMENT


@pytest.mark.parametrize('task', ['instance', 'panoptic'])
def test_objects_of_queries(task: str, write: Write) -> None:
    folder, model = write('mask2former', folder=f'my-{task}')
    card = resolve(f'hf:{folder}')  # the name says what it was trained for
    assert card.output.options.task == task
    assert resolve(f'hf:{folder}#semantic').output.options.task == 'semantic'
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    pixels = processor(images=IMAGE, return_tensors='pt')['pixel_values']
    with torch.no_grad():
        output = model(pixel_values=pixels)
    post_process = getattr(processor, f'post_process_{task}_segmentation')
    [expected] = post_process(output, target_sizes=[IMAGE.shape[:2]])
    with Segmenter(f'hf:{folder}', device='cpu', num_threads=1) as segmenter:
        [result] = segmenter.segment([IMAGE])
    assert result.objects is not None
    found = sorted(item.class_id for item in result.objects.items)
    assert found
    assert set(found) <= {info['label_id'] for info in expected['segments_info']}


class TestWhatIsRefused:
    def test_a_folder_without_a_config(self, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFoundError, match=r'expected a folder with config\.json'):
            resolve(f'hf:{tmp_path}')
        with pytest.raises(ModelNotFoundError, match='expected a folder at'):
            resolve('hf:./no/such/folder')

    def test_another_architecture_names_what_is_known(self, tmp_path: Path) -> None:
        (tmp_path / 'config.json').write_text('{"model_type": "llama"}')
        with pytest.raises(ModelCardError, match=r"SegFormer \(segformer\).*got 'llama'"):
            resolve(f'hf:{tmp_path}')

    def test_a_classifier_has_no_segmentation_head(self, write: Write) -> None:
        folder, _ = write('segformer')
        edit(folder / 'config.json', architectures=['SegformerForImageClassification'])
        with pytest.raises(ModelCardError, match='which has a segmentation head'):
            resolve(f'hf:{folder}')

    def test_pickled_weights(self, write: Write) -> None:
        folder, _ = write('segformer')
        (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
        with pytest.raises(WeightsError, match=r'only pytorch_model\.bin.*save_pretrained'):
            resolve(f'hf:{folder}')

    def test_another_number_of_classes(self, write: Write) -> None:
        folder, _ = write('segformer')
        labels = {str(i): f'thing {i}' for i in range(5)}
        edit(folder / 'config.json', id2label=labels, label2id=None)
        with pytest.raises(WeightsError, match='expected the weights of Segformer'):
            Segmenter(f'hf:{folder}', device='cpu')
        edit(folder / 'config.json', id2label={'0': 'a', '2': 'b'})
        with pytest.raises(ModelCardError, match=r'ids 0 to 1, got none for \[1\]'):
            resolve(f'hf:{folder}')

    def test_a_truncated_file(self, write: Write) -> None:
        folder, _ = write('segformer')
        path = folder / 'model.safetensors'
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(WeightsError, match='expected the weights of Segformer'):
            Segmenter(f'hf:{folder}', device='cpu')

    def test_a_backbone_alone(self, write: Write) -> None:
        folder, model = write('segformer')
        model.segformer.save_pretrained(folder)
        edit(folder / 'config.json', architectures=['SegformerForSemanticSegmentation'])
        with pytest.raises(WeightsError, match=r'missing.*decode_head'):
            Segmenter(f'hf:{folder}', device='cpu')

    def test_numbers_that_are_none(self, write: Write) -> None:
        folder, model = write('segformer')
        with torch.no_grad():
            model.decode_head.classifier.bias[0] = float('nan')
        model.save_pretrained(folder)
        with pytest.raises(WeightsError, match='expected finite numbers'):
            Segmenter(f'hf:{folder}', device='cpu')

    @pytest.mark.parametrize('shard', ['../other.safetensors', '/etc/passwd', 'pickle.bin'])
    def test_an_index_that_leads_elsewhere(self, shard: str, write: Write) -> None:
        folder, _ = write('segformer')
        (folder / 'model.safetensors').unlink()
        index = {'metadata': {}, 'weight_map': {'a.weight': shard}}
        (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
        with pytest.raises(WeightsError, match=r'names of \.safetensors files beside it'):
            Segmenter(f'hf:{folder}', device='cpu')

    @pytest.mark.parametrize(
        'name', ['../../etc', 'a/b/c', 'org/..', 'org/name@', 'a b', 'org/-x']
    )
    def test_names_that_are_no_repositories(self, name: str) -> None:
        pytest.importorskip('huggingface_hub', reason='huggingface_hub (extra hf) is missing')
        with pytest.raises(ModelNotFoundError):
            resolve(f'hf:{name}')

    def test_code_that_comes_along_is_not_run(self, write: Write) -> None:
        folder, _ = write('segformer')
        marker = folder / 'was_run'
        (folder / 'evil.py').write_text(f'open({str(marker)!r}, "w")\n')
        edit(
            folder / 'config.json',
            auto_map={'AutoConfig': 'evil.Config', 'AutoModel': 'evil.Model'},
        )
        edit(folder / 'preprocessor_config.json', auto_map={'AutoImageProcessor': 'evil.P'})
        with Segmenter(f'hf:{folder}', device='cpu', num_threads=1) as segmenter:
            segmenter.segment([SQUARE])
        assert not marker.exists()

    def test_images_prepared_in_ways_that_are_not_known(self, write: Write) -> None:
        folder, _ = write('segformer')
        (folder / 'preprocessor_config.json').unlink()
        with pytest.raises(ModelCardError, match='expected preprocessor_config'):
            resolve(f'hf:{folder}')
        for options, message in (
            ({'image_processor_type': 'PvtImageProcessor'}, 'image_processor_type'),
            ({'resample': 1}, 'resample'),
            ({'do_resize': False}, 'do_resize'),
            ({'size': {'longest_edge': 64}}, 'size'),
        ):
            whole = {'image_processor_type': 'SegformerImageProcessor', **options}
            (folder / 'preprocessor_config.json').write_text(json.dumps(whole))
            with pytest.raises(ModelCardError, match=f'preprocessor_config.json: {message}'):
                resolve(f'hf:{folder}')

    def test_a_task_that_the_model_does_not_do(self, write: Write) -> None:
        folder, _ = write('segformer')
        assert resolve(f'hf:{folder}#semantic').output.kind == 'logits'
        for task in ('panoptic', 'instance', 'depth'):
            with pytest.raises(ModelNotFoundError, match=f'#{task}: expected'):
                resolve(f'hf:{folder}#{task}')


def test_what_a_card_says(write: Write) -> None:
    folder, _ = write('segformer', folder='My Fine-Tuned SegFormer')
    names = {'0': 'road', '1': 'car', '2': 'car', **{str(i): f'x{i}' for i in range(3, 7)}}
    edit(folder / 'config.json', id2label=names)
    card = resolve(f'hf:{folder}')
    assert card.name == 'my_fine-tuned_segformer'
    assert card.classes.names[:3] == ('road', 'car (1)', 'car (2)')
    assert (card.licence, card.source) == ('not stated', str(folder))
    (folder / 'README.md').write_text('---\nlicense: apache-2.0\ntags: [x]\n---\n# Model\n')
    assert resolve(f'hf:{folder}').licence == 'apache-2.0'
    with pytest.raises(ModelNotFoundError, match=r'hf:.* for a transformers model'):
        resolve(str(folder))


def test_old_configs_with_a_size_of_one_number() -> None:
    spec = hf_input.input_spec_of(
        {'feature_extractor_type': 'SegformerFeatureExtractor', 'size': 640, 'resample': 2}, ''
    )
    assert (spec.size_hw, spec.resize) == ((640, 640), 'stretch')
    spec = hf_input.input_spec_of(
        {'image_processor_type': 'MaskFormerImageProcessor', 'size': 512, 'max_size': 2048}, ''
    )
    assert (spec.size_hw, spec.resize, spec.multiple_of) == ((512, 2048), 'shortest_edge', 32)


@pytest.mark.parametrize('name', list(hf_input.PROCESSORS))
def test_defaults_are_the_librarys(name: str) -> None:
    if name == 'Sam2':
        pytest.importorskip('torchvision', reason='its processor needs torchvision')
    processor_class = getattr(hf, f'{name}ImageProcessor')
    defaults = json.loads(processor_class().to_json_string())
    said = {key: value for key, value in defaults.items() if value is not None}
    said['image_processor_type'] = f'{name}ImageProcessor'
    ours = hf_input.input_spec_of({'image_processor_type': f'{name}ImageProcessor'}, '')
    assert hf_input.input_spec_of(said, '') == ours


sides = st.integers(1, 2000)


@given(source_hw=st.tuples(sides, sides), shortest=st.integers(16, 900), extra=st.integers(0, 900))
def test_shorter_sides_are_the_librarys(
    source_hw: tuple[int, int], shortest: int, extra: int
) -> None:
    from transformers.image_transforms import get_size_with_aspect_ratio

    size_hw = (shortest, shortest + extra)
    plan = plan_resize(source_hw, size_hw, 'shortest_edge')
    expected = get_size_with_aspect_ratio(source_hw, *size_hw)
    if min(expected) > 0:  # the library gives images of no width for very long ones
        assert plan.content_hw == expected


def edit(path: Path, **changes: Any) -> None:
    """Changes fields of a JSON file; those that become None go."""
    document = {**json.loads(path.read_text()), **changes}
    kept = {key: value for key, value in document.items() if value is not None}
    path.write_text(json.dumps(kept))


def test_eomt_takes_no_other_size(write: Write) -> None:
    """What it knows of places is for one size, of its windows too."""
    size = {'shortest_edge': 64, 'longest_edge': None}
    windows = {'size': size, 'do_pad': False, 'do_split_image': True}
    for name, options in (('windows', windows), ('padded', {})):
        folder, _ = write('eomt', name, **options)
        with Segmenter(f'hf:{folder}', device='cpu', num_threads=1) as segmenter:
            assert not segmenter.can_scale_input
            with pytest.raises(ConfigurationError, match='expected an input scale of 1'):
                segmenter.scale_input(0.5)
            assert len(segmenter.segment([IMAGE])) == 1
        with pytest.raises(ConfigurationError, match='expected none, because the network works'):
            Segmenter(f'hf:{folder}', input_size_hw=(96, 96), device='cpu')
    folder, _ = write('segformer')
    with Segmenter(f'hf:{folder}', device='cpu', num_threads=1) as segmenter:
        assert segmenter.can_scale_input


@pytest.mark.skipif(hf.utils.is_timm_available(), reason='timm is installed')
def test_a_backbone_of_timm_says_what_is_missing(write: Write) -> None:
    folder, _ = write('upernet')
    config = json.loads((folder / 'config.json').read_text())
    config['backbone_config'] = {'model_type': 'timm_backbone', 'backbone': 'resnet18'}
    (folder / 'config.json').write_text(json.dumps(config))
    with pytest.raises(MissingExtraError, match='timm is needed to run UperNet') as raised:
        Segmenter(f'hf:{folder}', device='cpu')
    assert raised.value.extra == 'timm'
