"""Labels over live topics are as good as the model called directly, on annotated images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ros_harness import send_until
from sensor_msgs.msg import Image

from seg_perception.imaging import view_frame
from seg_perception.models import resolve
from seg_perception.models.nets import build
from seg_perception.models.state_dicts import load_into, load_state_dict, rename_keys
from seg_perception.ros import qos
from seg_perception.ros.messages import array_to_image, image_to_frame, make_header, stamp_to_ns

pytestmark = [pytest.mark.ros, pytest.mark.slow]

DATA = Path(__file__).resolve().parents[3] / 'shared' / 'data'
MODEL = 'deeplabv3plus_mobilenetv2.ade20k31'
WEIGHTS = DATA / 'weights' / 'ade20k31' / 'deeplabv3plus_mobilenetv2.safetensors'
CAMVID = DATA / 'camvid'
NAMES = {  # CamVid's name -> ADE20K's, for the classes that both have
    'sky': 'sky',
    'building': 'building',
    'road': 'road',
    'pavement': 'sidewalk',
    'tree': 'tree',
    'car': 'car',
    'pedestrian': 'person',
}
NUM_IMAGES = 8


def annotated_images():
    paths = sorted((CAMVID / 'val' / 'images').iterdir())
    for path in paths[:: len(paths) // NUM_IMAGES][:NUM_IMAGES]:
        truth = cv2.imread(
            str(CAMVID / 'val' / 'labels' / f'{path.stem}.png'), cv2.IMREAD_UNCHANGED
        )
        yield cv2.imread(str(path)), truth


def called_directly(images_bgr):
    """The network alone: OpenCV's resize, one forward pass, torch's upsampling, argmax."""
    card = resolve(MODEL)
    net = build(card.architecture, len(card.classes), **card.architecture_options).eval()
    load_into(net, rename_keys(load_state_dict(WEIGHTS), card.weights), card.name)
    mean, std = (np.array(v, np.float32) for v in (card.input.mean_rgb, card.input.std_rgb))
    for image_bgr in images_bgr:
        # 480x360 becomes 512x384: the card's size_hw of 512x512, aspect kept.
        small = cv2.resize(image_bgr[..., ::-1], (512, 384), interpolation=cv2.INTER_LINEAR)
        batch = torch.from_numpy(((small - mean) / std).transpose(2, 0, 1)[None])
        with torch.inference_mode():
            scores = net(batch)
            for size, align_corners in (
                (batch.shape[2:], card.output.align_corners),
                (image_bgr.shape[:2], False),
            ):
                scores = torch.nn.functional.interpolate(
                    scores, size, mode='bilinear', align_corners=align_corners
                )
        yield scores[0].argmax(0).numpy().astype(np.uint8)


def mean_iou(predictions, truths):
    """Over the classes both label sets have; pixels of other classes do not count."""
    camvid = (CAMVID / 'classes.txt').read_text().split()
    classes = resolve(MODEL).classes
    predicted, truth = np.concatenate(predictions).ravel(), np.concatenate(truths).ravel()
    is_counted = np.isin(truth, [camvid.index(name) for name in NAMES])
    ious = []
    for theirs, ours in NAMES.items():
        is_true = (truth == camvid.index(theirs)) & is_counted
        is_predicted = (predicted == classes.id_of(ours)) & is_counted
        ious.append((is_true & is_predicted).sum() / (is_true | is_predicted).sum())
    return float(np.mean(ious))


def answer_to(image, stamp_ns, publisher, labels):
    """The labels of an image, which is sent until they come."""
    message = array_to_image(image, 'bgr8', make_header(stamp_ns, 'camera_optical_frame'))

    def answers():
        return [other for other in list(labels) if stamp_to_ns(other.header.stamp) == stamp_ns]

    what = f'labels of image {stamp_ns}'
    send_until(lambda: publisher.publish(message), answers, what, 60.0, period_s=0.5)
    return answers()[0]


def test_mean_iou_over_topics_is_the_models_own(spawn, ros):
    if not (WEIGHTS.is_file() and CAMVID.is_dir()):
        pytest.skip('needs shared/data (camvid and weights/ade20k31) beside the checkout')
    images, truths = zip(*annotated_images(), strict=True)
    expected = list(called_directly(images))
    node = spawn(
        'node', {'model': MODEL, 'weights_path': str(WEIGHTS), 'num_threads': 1, 'device': 'cpu'}
    )
    node.wait_for_log('loaded in', 60.0)
    labels = ros.collect('/camera/segmentation/labels', Image, qos.output())
    publisher = ros.publisher('/camera/image_raw', Image, qos.sensor_input())
    published = []
    for i, image in enumerate(images, 1):
        message = answer_to(image, i, publisher, labels)
        assert message.header.frame_id == 'camera_optical_frame'
        assert (message.height, message.width) == image.shape[:2]
        published.append(view_frame(image_to_frame(message)))
    direct, ours = mean_iou(expected, truths), mean_iou(published, truths)
    assert direct > 0.45, 'the model itself does not see what it should'
    assert ours == pytest.approx(direct, abs=0.002)
