"""A folder of transformers on live topics: the labels are the library's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ros_harness import send_until
from sensor_msgs.msg import Image

from seg_perception.imaging import view_frame
from seg_perception.ros import qos
from seg_perception.ros.messages import array_to_image, image_to_frame, make_header

hf = pytest.importorskip('transformers', reason='transformers (extra hf) is not installed')
data = pytest.importorskip('skimage.data', reason='scikit-image is not installed')

import tiny_transformers as tiny  # noqa: E402

pytestmark = pytest.mark.ros


def test_labels_over_topics_are_the_librarys(spawn, ros, tmp_path):
    folder = tmp_path / 'segformer'
    folder.mkdir()
    model_class = type(tiny.write('segformer', folder))
    image = np.ascontiguousarray(data.astronaut()[:272, 60:400])
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        output = model_class.from_pretrained(folder).eval()(
            **processor(images=image, return_tensors='pt')
        )
    [expected] = processor.post_process_semantic_segmentation(
        output, target_sizes=[image.shape[:2]]
    )
    node = spawn('node', {'model': f'hf:{folder}', 'device': 'cpu', 'num_threads': 1})
    log = node.wait_for_log('loaded in', 90.0)
    line = next(line for line in log.splitlines() if 'loaded in' in line)
    for part in ('SegFormer of transformers', '7 classes', '160x128, stretched', str(folder)):
        assert part in line
    labels = ros.collect('/camera/segmentation/labels', Image, qos.output())
    publisher = ros.publisher('/camera/image_raw', Image, qos.sensor_input())
    message = array_to_image(image, 'rgb8', make_header(1, 'camera_optical_frame'))

    send_until(lambda: publisher.publish(message), lambda: labels, 'labels', 60.0)
    published = view_frame(image_to_frame(labels[0]))
    assert published.shape == image.shape[:2]
    assert (published == expected.numpy()).mean() >= 0.999


def test_a_model_that_is_not_there_is_told(spawn):
    node = spawn('node', {'model': 'hf:/no/such/folder', 'device': 'cpu'})
    node.wait_for_log('hf:/no/such/folder: expected a folder', 60.0)
