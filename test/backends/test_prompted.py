"""Networks that are asked: prompts and words through the Segmenter, with random weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from seg_perception import Frame, Prompt, Segmenter
from seg_perception.backends.prompts import MAX_PROMPTS, ImagePrompts
from seg_perception.errors import (
    ConfigurationError,
    InferenceError,
    ModelCardError,
    PromptError,
)
from seg_perception.imaging.resize_plan import plan_resize
from seg_perception.models import resolve
from seg_perception.models.card import ModelCard
from seg_perception.models.nets.mobile_sam import MobileSAM
from seg_perception.models.nets.prompted import BESIDE, BOTTOM_RIGHT, NOT_A_POINT, ON, TOP_LEFT

SIZE_HW = (96, 96)
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
BOX = Prompt('cup', box_xyxy_px=(10, 10, 40, 50))
POINT = Prompt('spoon', on_xy_px=((60, 30),))


@pytest.fixture(scope='module')
def card(tmp_path_factory) -> ModelCard:
    """MobileSAM with random weights whose masks are neither empty nor everything."""
    torch.manual_seed(1)
    network = MobileSAM()
    path = tmp_path_factory.mktemp('weights') / 'random.safetensors'
    save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, path)
    published = resolve('mobile_sam')
    weights = dataclasses.replace(
        published.weights, uri=str(path), format='safetensors', sha256='', size_bytes=None
    )
    return dataclasses.replace(published, weights=weights)


@pytest.fixture(scope='module')
def segmenter(card):
    with Segmenter(card, input_size_hw=SIZE_HW, device='cpu', num_threads=1) as loaded:
        yield loaded


class TestTokens:
    geometry = plan_resize(
        (50, 100), (200, 200), 'fit', canvas_hw=(200, 200), placement='corner'
    )  # twice as large

    def test_a_box_is_its_corners_and_leaves_nothing_open(self):
        made = ImagePrompts.of([Prompt(box_xyxy_px=(10, 20, 31, 42))], self.geometry)
        # the first edge is at 20 input pixels, half a pixel before the centre of pixel 20
        assert made.places_N[0].tolist() == [[19.5, 39.5], [61.5, 83.5]]
        assert made.kinds_N[0].tolist() == [TOP_LEFT, BOTTOM_RIGHT]
        assert list(made.batches()) == [([0], False)]

    def test_points_have_a_place_that_is_none(self):
        one = Prompt(on_xy_px=((0, 0),))
        two = Prompt(on_xy_px=((1, 2),), beside_xy_px=((3, 4),))
        made = ImagePrompts.of([one, two], self.geometry)
        assert made.places_N[0].tolist() == [[0.5, 0.5], [0, 0]]
        assert [kinds.tolist() for kinds in made.kinds_N] == [
            [ON, NOT_A_POINT],
            [ON, BESIDE, NOT_A_POINT],
        ]
        assert list(made.batches()) == [([0], True), ([1], False)]

    def test_things_of_one_name_are_one_class(self):
        prompts = [Prompt('b', on_xy_px=((0, 0),)), BOX, Prompt('b', on_xy_px=((1, 1),))]
        made = ImagePrompts.of(prompts, plan_resize((60, 80), (60, 80), 'stretch'))
        assert made.classes.names == ('background', 'b', 'cup')
        assert made.class_ids_N == (1, 2, 1)

    @pytest.mark.parametrize(
        ('prompt', 'message'),
        [
            (Prompt(on_xy_px=((99.6, 0),)), 'points within the image of 100x50'),
            (Prompt(on_xy_px=((0, 0),), beside_xy_px=((0, -1),)), 'points within'),
            (Prompt(box_xyxy_px=(100, 0, 120, 9)), 'a box that overlaps the image'),
            (Prompt(on_xy_px=((1, 1),) * 65), 'at most 64 points'),
        ],
    )
    def test_what_is_not_about_the_image(self, prompt, message):
        with pytest.raises(PromptError, match=message):
            ImagePrompts.of([prompt], self.geometry)

    def test_too_many(self):
        with pytest.raises(PromptError, match=f'at most {MAX_PROMPTS} prompts'):
            ImagePrompts.of([BOX] * (MAX_PROMPTS + 1), self.geometry)


class TestSegmenter:
    def test_every_object_as_if_it_were_alone(self, segmenter):
        """Those decoded together, and those apart because of another kind of prompt."""
        prompts = [BOX, POINT, Prompt('plate', box_xyxy_px=(-5, 0, 80, 60)), POINT]
        assert segmenter.takes_prompts
        masks = masks_of(segmenter, prompts)
        assert masks.shape[0] == 4
        for prompt, mask in zip(prompts, masks, strict=True):
            alone = masks_of(segmenter, [prompt])[0]
            torch.testing.assert_close(mask, alone, atol=1e-4, rtol=1e-4)

    def test_images_keep_their_own_prompts_and_names(self, segmenter):
        results = segmenter.segment([IMAGE, IMAGE, IMAGE], prompts=[[BOX], [], [POINT, BOX]])
        assert [r.classes.names for r in results] == [
            ('background', 'cup'),
            ('background',),
            ('background', 'spoon', 'cup'),
        ]
        nothing = results[1]
        assert nothing.objects.items == ()
        assert not nothing.labels_YX.any()
        for result in results:
            assert result.labels_YX.shape == result.objects.instances_YX.shape == (60, 80)
            named = {(o.id, result.classes.names[o.class_id]) for o in result.objects.items}
            assert len(named) == len(result.objects.items)

    def test_without_prompts_the_encoder_does_not_run(self, segmenter, monkeypatch):
        monkeypatch.setattr(segmenter._backend, '_features', None)
        [result] = segmenter.segment([IMAGE], prompts=[[]])
        assert not result.labels_YX.any()

    @pytest.mark.parametrize(
        ('prompts', 'message'),
        [(None, 'expected a list for each image'), ([[BOX], [BOX]], 'each of 1 images, got 2')],
    )
    def test_prompts_for_each_image(self, segmenter, prompts, message):
        with pytest.raises(ConfigurationError, match=message):
            segmenter.segment([IMAGE], prompts=prompts)

    def test_other_models_take_none(self):
        with Segmenter(input_size_hw=(32, 32), device='cpu') as plain:
            with pytest.raises(ConfigurationError, match='does not take any'):
                plain.segment([IMAGE], prompts=[[BOX]])
            with pytest.raises(ConfigurationError, match="has classes of its own, got 'cup'"):
                plain.words = ['cup']

    def test_engines_that_leave_torch_are_refused(self, card):
        with pytest.raises(ConfigurationError, match=r'models that take prompts.*eager'):
            Segmenter(card, engine='onnxruntime', device='cpu')

    def test_a_card_that_says_otherwise(self, card):
        output = dataclasses.replace(card.output, kind='logits')
        with pytest.raises(ModelCardError, match=r'expected what MobileSAM takes, got logits'):
            Segmenter(dataclasses.replace(card, output=output), device='cpu')

    def test_not_a_number(self, card):
        with Segmenter(card, input_size_hw=SIZE_HW, device='cpu') as broken:
            network = broken._backend._network
            network.mask_decoder.iou_prediction_head.layers[-1].bias.fill_(torch.nan)
            with pytest.raises(InferenceError, match='got NaN'):
                broken.segment([IMAGE], prompts=[[BOX]])

    def test_warming_up_for_more_images_than_fit(self, card, monkeypatch):
        """Of a network that was compiled for a batch of its own."""
        with Segmenter(card, input_size_hw=SIZE_HW, device='cpu', num_threads=1) as segmenter:
            monkeypatch.setattr(segmenter._backend._encoder, 'max_batch', 1)
            segmenter.warm_up(IMAGE.shape[:2], batch=2)

    def test_closed(self, card):
        segmenter = Segmenter(card, input_size_hw=SIZE_HW, device='cpu')
        segmenter.close()
        with pytest.raises(InferenceError, match='is closed'):
            segmenter.segment([IMAGE], prompts=[[BOX]])


def masks_of(segmenter: Segmenter, prompts: list[Prompt]) -> torch.Tensor:
    """The decoder's own masks, before they are painted one over the other."""
    [(batch, _, [geometry])] = segmenter._preprocessor([Frame.from_array(IMAGE)])
    asked = ImagePrompts.of(prompts, geometry)
    [found] = segmenter._backend.infer_prompted(batch, [asked]).instances
    return found.mask_logits_NHW
