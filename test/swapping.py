"""What tests of the model's exchange share: models, a stream of images, the node's accounts."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from photographs import astronaut
from sensor_msgs.msg import Image
from small_models import write_model

from seg_perception.ros.messages import array_to_image, make_header

NODE = 'segmentation'
INPUT = '/camera/image_raw'
OUT = '/camera/segmentation'
DEADLINE_S = 60.0
INDOOR = ('background', 'floor', 'chair')
OUTDOOR = ('sky', 'tree', 'car', 'person', 'road')


def write_models(folder):
    """Cards by name: ``indoor`` finds floor (1), ``outdoor`` finds road (4)."""
    return {
        'indoor': write_model(folder, 'indoor', INDOOR, 'floor'),
        'outdoor': write_model(folder, 'outdoor', OUTDOOR, 'road'),
        'unsure': write_model(folder, 'unsure', OUTDOOR, 'road', fails='on white'),
        'labels': write_model(folder, 'labels', OUTDOOR, 'car', kind='labels'),
    }


def swap(ros, **values):
    """Sets parameters together and waits until what they need is there."""
    result = ros.set_params_atomically(NODE, **values)
    assert result.successful, result.reason
    wait_for_swap(ros)


def wait_for_swap(ros):
    """Returns when nothing is on its way any more; the last message of /diagnostics."""
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    diagnostics.wait_until(
        # The first message may have been under way when the change was made.
        lambda messages: len(messages) > 1 and 'loading' not in swap_state(messages[-1]),
        DEADLINE_S,
    )
    return diagnostics[-1]


def device_status(message):
    return next(s for s in message.status if s.name == f'{NODE}: device')


def swap_state(message):
    values = {value.key: value.value for value in device_status(message).values}
    return values.get('swap', '')


def counts(message):
    status = next(s for s in message.status if s.name == f'{NODE}: camera')
    return {value.key: float(value.value) for value in status.values}


class Stream:
    """Sends numbered images at a rate until told to stop."""

    def __init__(self, ros, period_s=0.02, first_ns=1):
        self.num_sent = 0
        self._ros, self._next_ns = ros, first_ns
        self._publisher = ros.publisher(INPUT, Image, 100)
        self._image = astronaut()
        self._timer = ros.node.create_timer(period_s, self._send)

    def _send(self):
        header = make_header(self._next_ns, 'cam')
        self._publisher.publish(array_to_image(self._image, 'rgb8', header))
        self._next_ns += 1
        self.num_sent += 1

    def stop(self):
        self._ros.node.destroy_timer(self._timer)
