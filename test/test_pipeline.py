"""The Segmenter from plain Python, against the network run by hand."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from photographs import astronaut

import seg_perception
from seg_perception import Frame, Segmenter
from seg_perception.backends import ModelOutput
from seg_perception.errors import (
    ConfigurationError,
    InferenceError,
    InputError,
    ModelNotFoundError,
)
from seg_perception.imaging import encode
from seg_perception.models import resolve
from seg_perception.models.nets import build
from seg_perception.models.state_dicts import load_state_dict
from seg_perception.models.weights import fetch_weights
from seg_perception.structures import CompressedFrame

SIZE_HW = (96, 96)


@pytest.fixture(scope='module')
def segmenter():
    with Segmenter(input_size_hw=SIZE_HW, num_threads=1, device='cpu') as loaded:
        yield loaded


@pytest.fixture(scope='module')
def image():
    return astronaut(120, 160)


def run_by_hand(image_rgb, size_hw):
    """The embedded model with nothing of the pipeline: OpenCV, the network, torch."""
    card = resolve('deeplabv3_mobilenetv2.voc21')
    net = build(card.architecture, len(card.classes), **card.architecture_options).eval()
    weights = load_state_dict(fetch_weights(card.weights, card.base_dir))
    net.load_state_dict({key: value.float() for key, value in weights.items()})
    small = cv2.resize(image_rgb, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    mean, std = (np.array(v, np.float32) for v in (card.input.mean_rgb, card.input.std_rgb))
    batch = torch.from_numpy(((small - mean) / std).transpose(2, 0, 1)[None])
    with torch.inference_mode():
        return net(batch)[0], card.output.align_corners


def test_equals_the_network_run_by_hand(segmenter, image):
    [result] = segmenter.segment([image])
    plan = segmenter._preprocessor.plan(image.shape[:2])
    assert plan.content_hw == plan.input_hw, 'the default model is not padded'
    logits, align_corners = run_by_hand(image, plan.input_hw)
    # Upsample to the input, then to the image: the two steps a tutorial would take.
    at_input = torch.nn.functional.interpolate(
        logits[None], plan.input_hw, mode='bilinear', align_corners=align_corners
    )
    scores = torch.nn.functional.interpolate(at_input, image.shape[:2], mode='bilinear')[0]
    assert set(result.class_fractions(0.1)) == {'background', 'person'}
    agreement = (scores.argmax(0).numpy() == result.labels_YX).mean()
    assert agreement > 0.99
    # Where the grid's sample lies on a pixel, confidence is the plain softmax probability.
    probability = logits.softmax(0).amax(0)
    assert result.confidence_YX.max() <= round(probability.max().item() * 255) + 1
    assert result.confidence_YX.min() >= round(probability.min().item() * 255) - 1


def test_shapes_types_and_headers(segmenter, image):
    frame = Frame.from_array(image, 'rgb8', stamp_ns=42, frame_id='cam', camera='front')
    [result] = segmenter.segment([frame])
    assert result.labels_YX.shape == result.confidence_YX.shape == image.shape[:2]
    assert result.labels_YX.dtype == result.confidence_YX.dtype == np.uint8
    assert result.labels_YX.flags.c_contiguous
    assert (result.stamp_ns, result.frame_id, result.camera) == (42, 'cam', 'front')
    assert {'preprocess', 'infer', 'postprocess'} <= set(result.timings_ms)


def test_a_batch_is_its_images_one_by_one(segmenter, image):
    """Other sizes, encodings and compression in one call, in order."""
    bgr = Frame.from_array(np.ascontiguousarray(image[..., ::-1]), 'bgr8')
    png = CompressedFrame(encode(bgr, 'png'), 'png')
    images = [
        image,
        image[:40, :150],
        bgr,
        png,
        image[:1, :1],
        np.ascontiguousarray(image[..., 0]),
    ]
    together = segmenter.segment(images)
    for one, result in zip(images, together, strict=True):
        [alone] = segmenter.segment([one])
        np.testing.assert_array_equal(result.labels_YX, alone.labels_YX)
    for same in (together[2], together[3]):
        np.testing.assert_array_equal(same.labels_YX, together[0].labels_YX)


def test_no_images_no_results(segmenter):
    assert segmenter.segment([]) == []


def test_results_are_the_callers_to_keep(segmenter, image):
    [first] = segmenter.segment([image])
    kept = first.labels_YX.copy(), first.confidence_YX.copy()
    for _ in range(3):
        segmenter.segment([255 - image])
    np.testing.assert_array_equal(first.labels_YX, kept[0])
    np.testing.assert_array_equal(first.confidence_YX, kept[1])


def test_confidence_can_be_left_out(segmenter, image):
    [result] = segmenter.segment([image], confidence=False)
    assert result.confidence_YX is None


def test_threshold_leaves_unsure_pixels_unlabelled(segmenter, image):
    [sure] = segmenter.segment([image])
    bound = (int(sure.confidence_YX.min()) + int(sure.confidence_YX.max())) // 2
    segmenter.confidence_threshold = bound / 255
    try:
        [result] = segmenter.segment([image], confidence=False)
    finally:
        segmenter.confidence_threshold = 0.0
    unlabelled = result.labels_YX == 255
    assert 0.0 < unlabelled.mean() < 1.0
    # Confidence is rounded, so the pixels at the bound may fall on either side.
    assert (sure.confidence_YX[unlabelled] <= bound).all()
    assert (sure.confidence_YX[~unlabelled] >= bound).all()
    np.testing.assert_array_equal(result.labels_YX[~unlabelled], sure.labels_YX[~unlabelled])


def test_output_size(segmenter, image):
    [full] = segmenter.segment([image])
    [half] = segmenter.segment([image], output_size_hw=(60, 80))
    assert half.labels_YX.shape == half.confidence_YX.shape == (60, 80)
    # The pixel of the half image lies between four of the full one.
    corners = np.stack([full.labels_YX[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    agreement = (corners == half.labels_YX).any(0)
    assert agreement.mean() > 0.99


@pytest.mark.parametrize(
    'wrong',
    [
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((3, 40, 50), np.uint8),
        np.zeros((4, 5), np.uint16),
        [[1, 2], [3, 4]],
    ],
)
def test_arrays_that_are_no_rgb_images_are_refused(segmenter, wrong):
    with pytest.raises(InputError, match=r'expected a Frame, a CompressedFrame, or a uint8 array'):
        segmenter.segment([wrong])


@pytest.mark.parametrize('size_hw', [(0, 5), (-3, 4), (5,)])
def test_output_sizes_that_cannot_be_are_refused(segmenter, image, size_hw):
    with pytest.raises(ConfigurationError, match='expected output_size_hw'):
        segmenter.segment([image], output_size_hw=size_hw)


@pytest.mark.parametrize('threshold', [float('nan'), 7.0, -0.1])
def test_thresholds_that_cannot_be_are_refused(segmenter, threshold):
    with pytest.raises(ConfigurationError, match='confidence_threshold: expected'):
        segmenter.confidence_threshold = threshold


def test_a_model_that_gives_nan_is_not_believed(segmenter, image, monkeypatch):
    infer = segmenter._backend.infer
    monkeypatch.setattr(
        segmenter._backend,
        'infer',
        lambda batch: ModelOutput(logits_BCHW=infer(batch).logits_BCHW * float('nan')),
    )
    with pytest.raises(InferenceError, match='expected numbers, got NaN'):
        segmenter.segment([image])


def test_unknown_options_and_models_are_refused():
    with pytest.raises(ConfigurationError, match='expected options among device, precision'):
        Segmenter(devise='cpu')
    with pytest.raises(ModelNotFoundError, match=r'deeplabv3_mobilenetv2\.voc21'):
        Segmenter('deeplabv3_mobilenetv2.voc')


def test_the_front_door():
    assert set(seg_perception.__all__) <= set(dir(seg_perception)) | set(seg_perception._HOME)
    for name in seg_perception.__all__:
        assert getattr(seg_perception, name) is not None
    with pytest.raises(AttributeError, match='nonsense'):
        _ = seg_perception.nonsense


def test_three_lines_of_python_without_ros(tmp_path, image):
    """As the README shows it, in a process that cannot import rclpy."""
    cv2.imwrite(str(tmp_path / 'photo.png'), image)
    program = (
        'import sys; sys.modules["rclpy"] = None\n'
        'from seg_perception import Segmenter, read_image\n'
        '[result] = Segmenter().segment([read_image("photo.png")])\n'
        'print(result.class_fractions())\n'
        # Torch's compiler: importing it takes longer than loading the model and running it.
        'assert "torch._dynamo" not in sys.modules\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('{')


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(image):
    if not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')
    results = {}
    for device, precision in (('cpu', 'fp32'), ('cuda', 'fp32'), ('cuda', 'fp16')):
        with Segmenter(device=device, precision=precision) as segmenter:
            results[device, precision] = segmenter.segment([image])[0].labels_YX
    for labels in results.values():
        assert (labels == results['cpu', 'fp32']).mean() > 0.995


@pytest.mark.parametrize(
    'device',
    [
        'cpu',
        pytest.param(
            'cuda',
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device'),
            ],
        ),
    ],
)
def test_a_stream_gives_what_one_after_the_other_gives(image, device):
    """While a batch is on its way back, the next one is under way; nothing may mix."""
    small = np.ascontiguousarray(image[::2, ::2])
    batches = [
        [image],
        [small, image[::-1], small[::-1]],
        [],
        [image[:, ::-1]],
        [small] * 3,
        [image],
    ] * 3
    with Segmenter(input_size_hw=SIZE_HW, device=device) as segmenter:
        expected = [segmenter.segment(images) for images in batches]
        actual = list(segmenter.stream(batches))
    assert [len(results) for results in actual] == [len(images) for images in batches]
    pairs = zip(itertools.chain(*expected), itertools.chain(*actual), strict=True)
    for one_by_one, streamed in pairs:
        np.testing.assert_array_equal(streamed.labels_YX, one_by_one.labels_YX)
        np.testing.assert_array_equal(streamed.confidence_YX, one_by_one.confidence_YX)


def test_results_made_by_another_thread_beside_the_next_start_are_the_same(image):
    small = np.ascontiguousarray(image[::2, ::2])
    batches = [[image], [small, image[::-1]], [image[:, ::-1]], [small[::-1]]] * 5
    with (
        Segmenter(input_size_hw=SIZE_HW, device='cpu') as segmenter,
        ThreadPoolExecutor(1) as finisher,
    ):
        expected = [segmenter.segment(images) for images in batches]
        actual = []
        for images in batches:
            pending = segmenter.start(images)
            if actual:
                actual[-1].result()  # none waits for more than the one before it
            actual.append(finisher.submit(pending.results))
        pairs = [
            pair
            for e, a in zip(expected, actual, strict=True)
            for pair in zip(e, a.result(), strict=True)
        ]
    for one_by_one, beside in pairs:
        np.testing.assert_array_equal(beside.labels_YX, one_by_one.labels_YX)
        np.testing.assert_array_equal(beside.confidence_YX, one_by_one.confidence_YX)


def test_threads_are_those_of_torch_and_opencv(image):
    """Both have defaults of the whole machine: a planner beside the model needs its cores."""
    seen = []

    def segment():
        torch.set_num_threads(3)
        segmenter.segment([image])
        seen.append((torch.get_num_threads(), cv2.getNumThreads()))

    before = cv2.getNumThreads()
    try:
        with Segmenter(input_size_hw=SIZE_HW, num_threads=2, device='cpu') as segmenter:
            thread = threading.Thread(target=segment)  # torch counts per thread
            thread.start()
            thread.join()
    finally:
        cv2.setNumThreads(before)
    assert seen == [(2, 2)]


def test_a_smaller_input_leaves_labels_at_their_size():
    segmenter = Segmenter(input_size_hw=(256, 256), num_threads=1)
    image = astronaut()
    [full] = segmenter.segment([image])
    segmenter.scale_input(0.5)
    [scaled] = segmenter.segment([image])
    [small] = Segmenter(input_size_hw=(128, 128), num_threads=1).segment([image])
    np.testing.assert_array_equal(scaled.labels_YX, small.labels_YX)
    assert scaled.labels_YX.shape == image.shape[:2]
    segmenter.scale_input(1.0)
    [again] = segmenter.segment([image])
    np.testing.assert_array_equal(again.labels_YX, full.labels_YX)
    for scale in (0.0, 1.5):
        with pytest.raises(ConfigurationError, match='input scale of 0 to 1'):
            segmenter.scale_input(scale)


def test_a_smaller_input_is_never_a_larger_one():
    """Nor one that a model of small images was not made for."""
    with Segmenter(input_size_hw=(16, 120), num_threads=1, device='cpu') as segmenter:
        full_hw = segmenter.input_hw((16, 120))
        for scale in (0.99, 0.5, 0.01):
            segmenter.scale_input(scale)
            scaled_hw = segmenter.input_hw((16, 120))
            assert all(side <= full for side, full in zip(scaled_hw, full_hw, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_graphs_take_mixed_sizes_no_images_and_freed_caches(image):
    small = np.ascontiguousarray(image[::2, ::2])
    batches = [[image, small, image], [], [image]]
    size = {'input_size_hw': (256, 256), 'device': 'cuda', 'precision': 'fp32'}
    with Segmenter(**size, engine='eager') as plain:
        expected = [[r.labels_YX for r in plain.segment(images)] for images in batches]
    with Segmenter(**size, engine='cuda_graph') as segmenter:
        for _ in range(2):
            for _ in range(3):  # as they come, captured, replayed
                for images, labels in zip(batches, expected, strict=True):
                    results = segmenter.segment(images)
                    assert len(results) == len(labels)
                    for result, label in zip(results, labels, strict=True):
                        assert (result.labels_YX == label).mean() > 0.999
            segmenter.free_caches()


def test_freed_caches_come_back():
    segmenter = Segmenter(input_size_hw=(64, 64), num_threads=1)
    [before] = segmenter.segment([astronaut()])
    segmenter.free_caches()
    [after] = segmenter.segment([astronaut()])
    np.testing.assert_array_equal(before.labels_YX, after.labels_YX)
