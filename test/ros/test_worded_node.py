"""Segmenting what words name: the real node, real topics, words that change while it runs."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from photographs import astronaut
from ros_harness import wait_until
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo

pytest.importorskip('transformers', reason='transformers (extra hf) is not installed')

from asked_transformers import clipseg, written

from seg_perception.errors import InferenceError
from seg_perception.imaging import view_frame
from seg_perception.ros import qos
from seg_perception.ros.messages import (
    array_to_image,
    image_to_frame,
    make_header,
    stamp_to_ns,
)
from seg_perception.ros.model_swap import ModelSwap
from seg_perception.ros.mount import Transforms
from seg_perception.ros.params import CameraParameters, Parameters

pytestmark = [pytest.mark.ros, pytest.mark.slow]

OUT = '/camera/segmentation'
TIMEOUT_S = 120.0


def table(label_info):
    return [entry.class_name for entry in label_info.class_map]


def test_words_are_classes_and_change_live(spawn, ros, tmp_path):
    written(clipseg, tmp_path)
    node = spawn(
        'node',
        {
            'model': f'hf:{tmp_path}',
            'prompts': ['cat', 'a red cup'],
            'mask_classes': ['*'],
            'num_threads': 1,
        },
        ttl_s=600.0,
    )
    node.wait_for_log('loaded in', TIMEOUT_S)
    label_info = ros.collect(f'{OUT}/label_info', LabelInfo, qos.latched())
    assert table(label_info.wait_for(1, TIMEOUT_S)[0]) == ['background', 'cat', 'a red cup']
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    cup = ros.collect(f'{OUT}/masks/a_red_cup', Image, qos.output())
    publisher = ros.publisher('/camera/image_raw', Image, qos.sensor_input())
    image = astronaut(96, 128)

    def shown_until(condition, what):
        def look():
            publisher.publish(array_to_image(image, 'rgb8', make_header(time.time_ns(), 'camera')))
            time.sleep(0.05)
            return condition()

        wait_until(look, TIMEOUT_S, what)

    def labels_since(since_ns):
        return [m for m in list(labels) if stamp_to_ns(m.header.stamp) >= since_ns]

    shown_until(lambda: labels and cup, 'labels and a mask')
    labels_YX, mask_YX = (view_frame(image_to_frame(got[0])) for got in (labels, cup))
    assert set(np.unique(labels_YX)) <= {0, 1, 2}
    assert len(np.unique(labels_YX)) > 1
    if labels[0].header.stamp == cup[0].header.stamp:
        assert ((labels_YX == 2) == (mask_YX == 255)).all()

    # words that cannot be are refused, and change nothing
    [refused] = ros.set_params('segmentation', prompts=['dog', 'dog'])
    assert not refused.successful
    assert 'repeated' in refused.reason
    assert len(label_info) == 1

    [accepted] = ros.set_params('segmentation', prompts=['dog'])
    assert accepted.successful, accepted.reason
    shown_until(lambda: len(label_info) > 1, 'another class table')
    assert table(label_info[-1]) == ['background', 'dog']
    since_ns = stamp_to_ns(label_info[-1].header.stamp)
    dog = ros.collect(f'{OUT}/masks/dog', Image, qos.output())
    shown_until(lambda: dog and labels_since(since_ns), 'labels and the mask of the new word')
    new = [view_frame(image_to_frame(m)) for m in labels_since(since_ns)]
    assert set(np.unique(new)) <= {0, 1}
    wait_until(
        lambda: not ros.node.count_publishers(f'{OUT}/masks/a_red_cup'),
        TIMEOUT_S,
        'an end of the mask of a word that is gone',
    )

    # none at all: everything is background
    [accepted] = ros.set_params('segmentation', prompts=[''])
    assert accepted.successful, accepted.reason
    shown_until(lambda: table(label_info[-1]) == ['background'], 'a table without words')
    since_ns = stamp_to_ns(label_info[-1].header.stamp)
    shown_until(lambda: labels_since(since_ns), 'labels')
    assert not view_frame(image_to_frame(labels_since(since_ns)[-1])).any()


def test_words_that_the_model_fails_on_change_nothing(ros, tmp_path):
    written(clipseg, tmp_path)
    settings = Parameters(
        model=f'hf:{tmp_path}',
        prompts=('cat',),
        num_threads=1,
        camera={'camera': CameraParameters()},
    )
    cameras = {}
    swap = ModelSwap(ros.node, cameras, Transforms(ros.node), settings)
    swap.load(settings)
    outputs = swap.make_outputs('camera', '/worded/segmentation')
    cameras['camera'] = SimpleNamespace(outputs=outputs, takes_prompts=False)
    offered = set(outputs._publishers)
    swap.segmenter._seen.close()  # what is left of it fails on any words
    with pytest.raises(InferenceError, match='is closed'):
        swap.change({'prompts': ('dog',), 'mask_classes': ('*',)})
    assert set(outputs._publishers) == offered
    assert not ros.node.count_publishers('/worded/segmentation/masks/dog')
    assert (swap.settings, swap._wanted, swap._committed) == (settings,) * 3
    outputs.destroy()
    swap.close()
