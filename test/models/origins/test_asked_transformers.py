"""SAM, SAM 2 and CLIPSeg of transformers find what the library's own models and processors find.

The models are small and random, written by the library's own ``save_pretrained``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asked_transformers import clipseg, sam, sam2, written

from seg_perception import Frame, Prompt, Segmenter
from seg_perception.errors import ConfigurationError, ModelNotFoundError, WeightsError
from seg_perception.models import resolve

hf = pytest.importorskip('transformers', reason='transformers (extra hf) is not installed')
data = pytest.importorskip('skimage.data', reason='scikit-image is not installed')

IMAGE = np.ascontiguousarray(data.astronaut()[:96, 200:328])  # 128x96
BOX, POINT = (20.0, 10.0, 90.0, 80.0), (64.0, 40.0)
WORDS = ('cat', 'a red cup')


@pytest.fixture(autouse=True)
def quiet_library() -> None:
    hf.utils.logging.disable_progress_bar()
    hf.utils.logging.set_verbosity_error()


@pytest.mark.parametrize('make', [sam, sam2])
@pytest.mark.parametrize(
    ('prompt', 'scaled'),
    [
        (Prompt('cup', box_xyxy_px=BOX), {'input_boxes': BOX}),
        (Prompt('cup', on_xy_px=(POINT,)), {'input_points': POINT}),
    ],
)
def test_masks_equal_the_librarys(make: Any, prompt: Prompt, scaled: Any, tmp_path: Path) -> None:
    model = written(make, tmp_path)
    with Segmenter(f'hf:{tmp_path}', device='cpu', num_threads=1) as segmenter:
        [(batch_B3HW, _, [geometry])] = segmenter._preprocessor([Frame.from_array(IMAGE)])
        # the network's input is the library's own
        if make is sam:
            processor = hf.SamImageProcessor.from_pretrained(tmp_path)
            pixels = processor(IMAGE, return_tensors='pt')['pixel_values']
            torch.testing.assert_close(batch_B3HW, pixels, atol=0.02, rtol=0)
        [((name, places),)] = [tuple(scaled.items())]
        pairs = np.array(places).reshape(-1, 2) - (0.5 if name == 'input_boxes' else 0.0)
        given = torch.tensor(geometry.source_to_input_xy(pairs)).float()
        shape = (1, 1, 4) if name == 'input_boxes' else (1, 1, 1, 2)
        with torch.no_grad():
            expected = model(
                pixel_values=batch_B3HW,
                multimask_output=name == 'input_points',
                **{name: given.view(shape)},
            )
        [result] = segmenter.segment([IMAGE], prompts=[[prompt]])
    best = expected.iou_scores[0, 0].argmax()
    logits = expected.pred_masks[:, 0, best : best + 1]
    upsampled = torch.nn.functional.interpolate(
        logits, batch_B3HW.shape[2:], mode='bilinear', align_corners=False
    )
    rows, columns = geometry.content_slices
    inside = torch.nn.functional.interpolate(
        upsampled[:, :, rows, columns], IMAGE.shape[:2], mode='bilinear', align_corners=False
    )
    mask = (inside[0, 0] > 0).numpy()
    assert 0.0 < mask.mean() < 1.0
    # the library interpolates twice, from the grid to the input and from there to the image
    assert (mask == (result.labels_YX == 1)).mean() > 0.98
    assert result.classes.names == ('background', 'cup')


@pytest.mark.parametrize('make', [sam, sam2])
def test_they_take_one_size(make: Any, tmp_path: Path) -> None:
    written(make, tmp_path)
    with Segmenter(f'hf:{tmp_path}', device='cpu') as segmenter:
        assert not segmenter.can_scale_input
    with pytest.raises(ConfigurationError, match='takes only images of 64x64'):
        Segmenter(f'hf:{tmp_path}', input_size_hw=(32, 32), device='cpu')


def test_weights_of_sam2_for_video(tmp_path: Path) -> None:
    """As they are published: SAM 2's repositories say that they are for video."""
    written(sam2, tmp_path)
    path = tmp_path / 'config.json'
    config = json.loads(path.read_text())
    config |= {'model_type': 'sam2_video', 'architectures': ['Sam2VideoModel']}
    path.write_text(json.dumps(config))
    with Segmenter(f'hf:{tmp_path}', device='cpu', num_threads=1) as segmenter:
        [result] = segmenter.segment([IMAGE], prompts=[[Prompt(box_xyxy_px=BOX)]])
    assert result.objects is not None


class TestWords:
    def test_labels_are_the_librarys(self, tmp_path: Path) -> None:
        model = written(clipseg, tmp_path)
        processor = hf.ViTImageProcessor.from_pretrained(tmp_path)
        tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path)
        tokens = tokenizer(list(WORDS), padding=True, return_tensors='pt')
        pixels = processor([IMAGE] * len(WORDS), return_tensors='pt')['pixel_values']
        with torch.no_grad():
            logits = model(**tokens, pixel_values=pixels).logits
        upsampled = torch.nn.functional.interpolate(
            logits[None], IMAGE.shape[:2], mode='bilinear', align_corners=False
        )[0]
        scores = torch.cat([torch.zeros_like(upsampled[:1]), upsampled])
        expected = scores.argmax(0).numpy()
        with Segmenter(f'hf:{tmp_path}', words=WORDS, device='cpu', num_threads=1) as segmenter:
            [result] = segmenter.segment([IMAGE])
        assert result.classes.names == ('background', *WORDS)
        assert len(np.unique(expected)) > 1
        assert (result.labels_YX == expected).mean() >= 0.99

    @pytest.mark.parametrize('engine', ['native', 'auto'])
    def test_words_change_between_images(self, engine: str, tmp_path: Path) -> None:
        written(clipseg, tmp_path)
        options = {'engine': engine, 'device': 'cpu', 'num_threads': 1}
        with Segmenter(f'hf:{tmp_path}', **options) as segmenter:
            assert segmenter.takes_words
            [nothing] = segmenter.segment([IMAGE])
            segmenter.words = WORDS
            [both] = segmenter.segment([IMAGE])
            segmenter.words = WORDS[1:]
            [one] = segmenter.segment([IMAGE])
            assert segmenter.words == WORDS[1:]
        assert nothing.classes.names == ('background',)
        assert not nothing.labels_YX.any()
        assert both.classes.names == ('background', *WORDS)
        # a word alone wins where it won or where only the other word was better
        assert ((both.labels_YX == 2) <= (one.labels_YX == 1)).all()

    @pytest.mark.parametrize(
        ('words', 'message'),
        [
            (['cat', 'cat'], 'repeated'),
            (['background'], 'names of things'),
            ([' '], 'names of things'),
            (['x' * 201], '1 to 200 characters'),
            ([f'w{i}' for i in range(65)], 'at most 64 words'),
        ],
    )
    def test_words_that_cannot_be(self, words: list[str], message: str, tmp_path: Path) -> None:
        written(clipseg, tmp_path)
        with (
            Segmenter(f'hf:{tmp_path}', words=['cup'], device='cpu') as segmenter,
            pytest.raises(ConfigurationError, match=message),
        ):
            segmenter.words = words
        assert segmenter.words == ('cup',)

    def test_without_its_tokenizer(self, tmp_path: Path) -> None:
        written(clipseg, tmp_path)
        for name in ('vocab.json', 'merges.txt', 'tokenizer.json', 'tokenizer_config.json'):
            (tmp_path / name).unlink(missing_ok=True)
        with pytest.raises(WeightsError, match='files of its tokenizer'):
            Segmenter(f'hf:{tmp_path}', device='cpu')

    def test_there_are_no_tasks(self, tmp_path: Path) -> None:
        written(clipseg, tmp_path)
        with pytest.raises(ModelNotFoundError, match='CLIPSeg has no tasks'):
            resolve(f'hf:{tmp_path}#panoptic')
