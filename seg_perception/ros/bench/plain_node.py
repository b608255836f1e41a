"""The baseline: a segmentation node as a competent tutorial writes it.

Every line is what tutorials and widely used packages do: a copy to BGR as cv_bridge makes it,
``cv2.resize``, normalisation in NumPy, the network, softmax and argmax at the network's size,
labels and confidence enlarged with ``cv2.resize``, one comparison and one message per class mask,
``data = array.tobytes()``. Outputs nobody listens to are left out. It is correct, but its labels
are enlarged to the nearest cell, not exact at borders.

The networks of tutorials (torchvision's, Hugging Face's with its post-processing) give logits at
the size of their input, so argmax is taken there: ``argmax_at`` ``input``. With ``grid`` it is
taken on the network's coarse grid, which is less exact and about half the work.

The network, its thread count and its weights are those of the node it is compared with.
"""

from __future__ import annotations

from typing import Any, NoReturn

import cv2
import numpy as np
import torch
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image

from seg_perception.benchmarks.bare import BareModel
from seg_perception.messages.topic_names import topic_token
from seg_perception.models import resolve
from seg_perception.ros.process import run_node

# As cv_bridge's imgmsg_to_cv2(message, 'bgr8'); None where the bytes are BGR already.
TO_BGR: dict[str, int | None] = {
    'rgb8': cv2.COLOR_RGB2BGR,
    'bgr8': None,
    'mono8': cv2.COLOR_GRAY2BGR,
    'yuv422': cv2.COLOR_YUV2BGR_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2BGR_YUY2,
    'bayer_rggb8': cv2.COLOR_BayerBG2BGR,
    'bayer_bggr8': cv2.COLOR_BayerRG2BGR,
    'bayer_gbrg8': cv2.COLOR_BayerGR2BGR,
    'bayer_grbg8': cv2.COLOR_BayerGB2BGR,
}


def image_to_bgr(message: Image) -> np.ndarray:
    """A copy of the picture in BGR, (height, width, 3)."""
    code = TO_BGR[message.encoding]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    channels = {'rgb8': 3, 'bgr8': 3, 'yuv422': 2, 'yuv422_yuy2': 2}.get(message.encoding, 1)
    pixels = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
    return pixels.copy() if code is None else cv2.cvtColor(pixels, code)


class PlainNode(Node):
    """Subscribes to an image topic, publishes below ``segmentation/`` beside it."""

    def __init__(self) -> None:
        super().__init__('plain_segmentation')
        image_topic = str(self.declare_parameter('image_topic', '/camera/image_raw').value)
        is_compressed = bool(self.declare_parameter('is_compressed', False).value)
        mask_classes = list(self.declare_parameter('mask_classes', ['']).value)
        num_threads = int(self.declare_parameter('num_threads', 0).value)
        self.is_at_grid = self.declare_parameter('argmax_at', 'input').value == 'grid'
        card = resolve(str(self.declare_parameter('model', '').value))
        self.model = BareModel(card, num_threads)
        self.mean = np.array(card.input.mean_rgb, np.float32)
        self.std = np.array(card.input.std_rgb, np.float32)
        self.palette = card.classes.palette_rgb()
        self.class_ids = {name: card.classes.id_of(name) for name in mask_classes if name}
        namespace = f'{image_topic.rsplit("/", 1)[0]}/segmentation'
        topics = ['labels', 'confidence', 'overlay']
        topics += [f'masks/{topic_token(name)}' for name in self.class_ids]
        self.outputs = {t: self.create_publisher(Image, f'{namespace}/{t}', 1) for t in topics}
        if is_compressed:
            self.create_subscription(
                CompressedImage,
                f'{image_topic}/compressed',
                self.on_compressed,
                qos_profile_sensor_data,
            )
        else:
            self.create_subscription(Image, image_topic, self.on_image, qos_profile_sensor_data)

    def on_image(self, message: Image) -> None:
        """Segments a raw image."""
        self.segment(image_to_bgr(message), message.header)

    def on_compressed(self, message: CompressedImage) -> None:
        """Segments a compressed image."""
        data = np.frombuffer(message.data, np.uint8)
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if bgr is not None:
            self.segment(bgr, message.header)

    def segment(self, bgr: np.ndarray, header: Any) -> None:
        """Segments a picture (height, width, 3) and publishes what somebody listens to."""
        height, width = bgr.shape[:2]
        input_h, input_w = self.model.preprocessor.plan((height, width)).input_hw
        rgb = cv2.cvtColor(cv2.resize(bgr, (input_w, input_h)), cv2.COLOR_BGR2RGB)
        normalised = (rgb.astype(np.float32) - self.mean) / self.std
        batch = torch.from_numpy(normalised.transpose(2, 0, 1)[None])
        with torch.inference_mode():
            logits = self.model.logits(batch)
            if not self.is_at_grid:
                logits = torch.nn.functional.interpolate(
                    logits,
                    size=(input_h, input_w),
                    mode='bilinear',
                    align_corners=self.model.card.output.align_corners,
                )
            probabilities = torch.softmax(logits, dim=1)[0]
            scores, classes = probabilities.max(dim=0)
        labels = cv2.resize(
            classes.numpy().astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
        )
        if self.wants('labels'):
            self.publish('labels', labels, 'mono8', header)
        if self.wants('confidence'):
            confidence = cv2.resize(scores.numpy(), (width, height))
            self.publish('confidence', (confidence * 255).astype(np.uint8), 'mono8', header)
        for name, class_id in self.class_ids.items():
            topic = f'masks/{topic_token(name)}'
            if self.wants(topic):
                mask = (labels == class_id).astype(np.uint8) * 255
                self.publish(topic, mask, 'mono8', header)
        if self.wants('overlay'):
            colors = self.palette[labels]
            picture = cv2.addWeighted(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), 0.5, colors, 0.5, 0)
            self.publish('overlay', picture, 'rgb8', header)

    def wants(self, topic: str) -> bool:
        """Whether somebody listens."""
        return bool(self.outputs[topic].get_subscription_count())

    def publish(self, topic: str, pixels: np.ndarray, encoding: str, header: Any) -> None:
        """Publishes an array as an image."""
        message = Image()
        message.header = header
        message.height, message.width = pixels.shape[:2]
        message.encoding = encoding
        message.step = pixels.nbytes // pixels.shape[0]
        message.data = pixels.tobytes()
        self.outputs[topic].publish(message)


def main() -> NoReturn:
    """Runs the node."""
    run_node(PlainNode)
