"""The fault matrix: every fault injected for real, over live topics, into one node.

Each fault says what the user sees and how it ends; ``docs/faults.md`` shows the same table, and a
test holds the two together. After every fault the camera works again.
"""

from __future__ import annotations

import re
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from fault_model import harmless, marked, write_fault_model
from fault_rig import CALIBRATION, NODE, PATIENT_S, SIZE_HW, DepthCamera, FaultRig
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_harness import Ros, Spawner, send_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool, Trigger

from seg_perception.imaging import encode
from seg_perception.ros import qos
from seg_perception.ros.messages import (
    image_to_frame,
    intrinsics_to_camera_info,
    make_header,
    stamp_to_ns,
)

pytestmark = pytest.mark.ros

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)
PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'faults.md'
LONE_NODE = 'lone'
S = 1_000_000_000
SILENCE_S = [0.5, 1.0]


@dataclass(frozen=True)
class Fault:
    """A row of the matrix."""

    name: str
    seen: str
    recovery: str
    inject: Callable[..., None]


FAULTS: list[Fault] = []
NEXT = 'the next good frame is published'
SENT = 'good images'


def fault(name: str, seen: str, recovery: str = NEXT) -> Callable[..., Callable[..., None]]:
    """Enters a fault into the matrix: what the user sees, and how it ends."""

    def enter(inject: Callable[..., None]) -> Callable[..., None]:
        FAULTS.append(Fault(name, seen, recovery, inject))
        return inject

    return enter


# Images


@fault('fewer bytes than the header says', '`dropped_malformed`, WARN with sizes in the log')
def _(rig):
    good = rig.image()
    rig.costs('malformed', data=bytes(good.data)[:-1])
    rig.says('plain', 'malformed', WARN)
    rig.logs('expected 9216 B')
    rig.works()


@fault('rows shorter than their pixels (`step`)', '`dropped_malformed`, WARN')
def _(rig):
    rig.costs('malformed', step=64 * 3 - 1)
    rig.logs('step 191 < 64 px * 3 B (rgb8)')
    rig.works()


@fault('padded rows (`step` larger than needed)', 'nothing: padding is skipped', 'none needed')
def _(rig):
    padded = np.zeros((*SIZE_HW[:1], 64 * 3 + 5), np.uint8)
    padded[:, : 64 * 3] = harmless(SIZE_HW).reshape(SIZE_HW[0], -1)
    plain = rig.works()
    labels = rig.works(step=64 * 3 + 5, data=padded.tobytes())
    assert labels.data == plain.data


@fault('an image without rows', '`dropped_malformed`, WARN')
def _(rig):
    rig.costs('malformed', height=0, data=b'')
    rig.logs('64x0 px')
    rig.works()


@fault('an image without columns', '`dropped_malformed`, WARN')
def _(rig):
    rig.costs('malformed', width=0, step=0, data=b'')
    rig.works()


@fault('a claim of 100000x100000 pixels', '`dropped_malformed` before anything is allocated')
def _(rig):
    rig.costs('malformed', height=100_000, width=100_000, step=300_000)
    rig.logs('claims 100000x100000 px')
    rig.works()


@fault('an unknown encoding', '`dropped_unsupported`, WARN naming it')
def _(rig):
    rig.costs('unsupported', encoding='rgb8', message=_named(rig, 'yuv999'))
    rig.says('plain', 'unsupported', WARN)
    rig.logs("encoding 'yuv999'")
    rig.works()


@fault('no encoding at all', '`dropped_unsupported`, WARN')
def _(rig):
    rig.costs('unsupported', message=_named(rig, ''))
    rig.works()


@fault('an encoding that contradicts the bytes', '`dropped_malformed`, WARN')
def _(rig):
    rig.costs('malformed', message=_named(rig, 'rgba8'))
    rig.works()


def _named(rig, encoding):
    message = rig.image()
    message.encoding = encoding
    return message


@fault('a message that ends in its header (CDR)', '`dropped_malformed`, WARN')
def _(rig):
    rig.costs('malformed', message=rig.serialized()[:22])
    rig.works()


@fault('a string longer than the message (CDR)', '`dropped_malformed`, WARN')
def _(rig):
    wire = bytearray(rig.serialized())
    wire[12:16] = struct.pack('<I', 2**31)
    rig.costs('malformed', message=bytes(wire))
    rig.works()


@fault('random bytes in place of a message', '`dropped_malformed` or `dropped_unsupported`')
def _(rig):
    before = rig.count('plain', 'received')
    generator = np.random.default_rng(3)
    for _ in range(20):
        body = generator.integers(0, 256, 200, np.uint8).tobytes()
        rig.send(message=b'\x00\x01\x00\x00' + body)
    rig.until(lambda: rig.count('plain', 'received') > before, 'garbage received')
    rig.works()
    assert rig.node.is_running()


@fault('the size changes while it runs', 'nothing: outputs have the new size', 'none needed')
def _(rig):
    labels = rig.works(picture=harmless((96, 32)))
    assert (labels.height, labels.width) == (96, 32)
    assert rig.works().height == SIZE_HW[0]


@fault(
    'the encoding changes while it runs', 'nothing: pixels are read as they come', 'none needed'
)
def _(rig):
    plain = rig.works()
    labels = rig.works(picture=harmless(SIZE_HW)[..., ::-1], encoding='bgr8')
    assert labels.data == plain.data


@fault('the frame_id changes while it runs', 'outputs carry the new one', 'none needed')
def _(rig):
    labels = rig.works(header=make_header(rig.clock.now_ns(), 'other_optical'))
    assert labels.header.frame_id == 'other_optical'


@fault('a truncated JPEG', '`dropped_malformed`, WARN')
def _(rig):
    jpeg = encode(image_to_frame(rig.image('plain')), 'jpeg')
    rig.costs('malformed', 'packed', format='jpeg', data=jpeg[: len(jpeg) // 2])
    rig.works('packed')


@fault('compressed bytes that are no picture', '`dropped_malformed`, WARN')
def _(rig):
    rig.costs('malformed', 'packed', format='jpeg', data=b'not an image')
    rig.works('packed')


@fault('no compressed bytes at all', '`dropped_malformed`, WARN')
def _(rig):
    rig.costs('malformed', 'packed', format='jpeg', data=b'')
    rig.works('packed')


@fault('a compressed format that is not offered', '`dropped_unsupported`, WARN naming it')
def _(rig):
    rig.costs('unsupported', 'packed', format='tiff')
    rig.logs('tiff')
    rig.works('packed')


@fault('a PNG of 60000x60000 pixels in a few bytes', '`dropped_malformed` before it is decoded')
def _(rig):
    png = bytearray(encode(image_to_frame(rig.image('plain')), 'png'))
    png[16:24] = struct.pack('>II', 60_000, 60_000)
    rig.costs('malformed', 'packed', data=bytes(png))
    rig.works('packed')


# Stamps and clocks


@fault('no stamp', '`stamps_zero`, WARN; published, with the stamp unchanged')
def _(rig):
    _odd_stamp(rig, 'zero', lambda: 0)


@fault('a stamp in the future', '`stamps_ahead`, WARN: clocks differ; published')
def _(rig):
    _odd_stamp(rig, 'ahead', lambda: time.time_ns() + 100 * S)
    rig.logs('synchronise the computers')


@fault('the same stamp twice', '`stamps_repeated`, WARN: two drivers on one topic?; published')
def _(rig):
    _odd_stamp(rig, 'repeated', lambda: rig.clock.last_ns)


@fault(
    'stamps go back (a recording begins anew)',
    '`stamps_backwards`, WARN; tracking and pairing start anew; published',
)
def _(rig):
    start_ns = time.time_ns() - 5 * S
    _odd_stamp(rig, 'backwards', lambda: start_ns)
    rig.logs('stamps went back')


def _odd_stamp(rig, odd, stamp_ns):
    rig.works()
    rig.look_anew()
    before = rig.count('plain', f'stamps_{odd}')
    labels = rig.works(stamp_ns=stamp_ns())
    rig.until(lambda: rig.count('plain', f'stamps_{odd}') > before, f'stamps_{odd}')
    rig.says('plain', odd, WARN)
    assert labels.header.stamp is not None
    rig.works()


@fault('frames older than `max_frame_age_s`', '`dropped_stale`, WARN; not published')
def _(rig):
    assert rig.set(max_frame_age_s=1.0).successful
    rig.costs('stale', stamp_ns=time.time_ns() - 5 * S)
    rig.says('plain', 'stale', WARN)
    rig.works()
    rig.set(max_frame_age_s=0.0)


@fault('stamps as far in the future, with `max_frame_age_s`', '`dropped_stale`, WARN')
def _(rig):
    rig.set(max_frame_age_s=1.0)
    rig.costs('stale', stamp_ns=time.time_ns() + 60 * S)
    rig.works()
    rig.set(max_frame_age_s=0.0)


@fault('images that are seconds old when they arrive', 'WARN with their age (`age_thresholds_s`)')
def _(rig):
    def is_told():
        rig.send('late', stamp_ns=time.time_ns() - 3 * S)
        time.sleep(0.03)
        message = rig.status('late').message
        return re.search(r'images are [3-5]\.\d s old when they arrive', message)

    rig.until(is_told, 'the age of images')
    rig.works('late')


# Cameras


@fault(
    'a camera falls silent',
    'WARN, then ERROR (`silence_thresholds_s`), `status` says `silent`, one line in the log',
    'the log says that images come again and after how long',
)
def _(rig):
    rig.works()
    mark = len(rig.node.log)
    rig.set(silence_thresholds_s=[0.5, 0.0])
    rig.says('plain', 'no image on /plain/image_raw for', WARN)
    rig.beats_with('plain', WARN, 'silent')
    rig.set(silence_thresholds_s=SILENCE_S)
    rig.says('plain', 'no image on /plain/image_raw for', ERROR)
    rig.logs('1 publisher(s) there: check that the driver sends', mark)
    time.sleep(0.3)
    assert rig.node.log[mark:].count('plain: no image on') == 1, 'once'
    again = 'plain: images again on /plain/image_raw after'
    _keep_going(rig, lambda: again in rig.node.log[mark:])
    _keep_going(rig, lambda: rig.beats['plain'][-1].level != ERROR)
    rig.set(silence_thresholds_s=PATIENT_S)


@fault(
    'a camera dies, and comes back',
    'as above; the log says that nobody publishes there and what to check',
    'by itself: the node listens on',
)
def _(rig):
    rig.works('late')
    mark = len(rig.node.log)
    rig.ros.node.destroy_publisher(rig.publishers.pop('late'))
    rig.until(lambda: rig.ros.node.count_publishers(rig.topic('late')) == 0, 'the camera to die')
    rig.set(silence_thresholds_s=SILENCE_S)
    rig.logs('late: no image on /late/image_raw', mark)
    rig.logs('nobody publishes there: check that the camera driver runs', mark)
    rig.set(silence_thresholds_s=PATIENT_S)
    rig.publishers['late'] = rig.ros.publisher(rig.topic('late'), Image, qos.sensor_input())
    rig.works('late')


@fault('a camera slower than `expected_rate_hz`', 'WARN or ERROR with both rates')
def _(rig):
    rig.set(plain__expected_rate_hz=500.0)
    _keep_going(rig, lambda: 'of 500.0 Hz arrive on' in rig.status('plain').message)
    rig.set(plain__expected_rate_hz=0.0)
    rig.works()


@fault('a camera faster than the model', '`dropped_superseded`: the newest frame wins')
def _(rig):
    before = rig.count('plain', 'dropped_superseded')
    slow = rig.image('thinker', marked('slow', SIZE_HW))

    def is_counted():
        rig.send('thinker', slow)
        for _ in range(3):
            rig.send()
            time.sleep(0.01)
        return rig.count('plain', 'dropped_superseded') > before

    rig.until(is_counted, 'superseded frames')
    rig.works()


@fault('a camera faster than `max_rate_hz`', '`dropped_rate_limited`')
def _(rig):
    rig.set(plain__max_rate_hz=2.0)
    rig.works()
    before = rig.count('plain', 'dropped_rate_limited')
    _keep_going(rig, lambda: rig.count('plain', 'dropped_rate_limited') > before)
    rig.set(plain__max_rate_hz=0.0)
    rig.works()


@fault('two drivers on one topic', '`stamps_backwards` or `stamps_repeated`, WARN')
def _(rig):
    other = rig.ros.publisher(rig.topic('plain'), Image, qos.sensor_input())
    before = rig.count('plain', 'stamps_backwards')

    def is_counted():
        rig.send()
        other.publish(rig.image(stamp_ns=rig.clock.now_ns() - S))
        time.sleep(0.03)
        return rig.count('plain', 'stamps_backwards') > before

    rig.until(is_counted, 'stamps of two drivers')
    rig.ros.node.destroy_publisher(other)
    rig.works()


@fault(
    'a QoS that the camera does not offer (an override to reliable)',
    'the log names the policy; the camera is silent',
    'correct the override, configure anew',
)
def _(rig):
    rig.send('strict')
    rig.logs('incompatible QoS')
    rig.set(silence_thresholds_s=SILENCE_S)
    rig.says('strict', 'no image on /strict/image_raw')
    rig.set(silence_thresholds_s=PATIENT_S)
    assert len(rig.labels['strict']) == 0
    rig.works()


def _keep_going(rig, condition):
    send_until(rig.send, condition, 'what was to be seen', period_s=0.03)


# Listeners


@fault('a subscriber that does not take its messages', 'nothing: others get every frame')
def _(rig):
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    stuck = rclpy.create_node('stuck', context=context)
    stuck.create_subscription(Image, '/plain/segmentation/labels', print, qos.output())
    try:
        for _ in range(5):
            rig.works()
    finally:
        stuck.destroy_node()
        rclpy.shutdown(context=context)
    rig.works()


@fault('a subscriber that wants a QoS not offered (latched labels)', 'the log names the policy')
def _(rig):
    mark = len(rig.node.log)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscription = rig.ros.node.create_subscription(
        Image, '/plain/segmentation/labels', print, latched
    )
    rig.logs('incompatible QoS', mark)
    rig.ros.node.destroy_subscription(subscription)
    rig.works()


@fault(
    '`~/enable false`', '`status` is STALE, `disabled`; nothing is published', '`~/enable true`'
)
def _(rig):
    rig.works()
    assert rig.ros.call(SetBool, f'/{NODE}/enable', SetBool.Request(data=False)).success
    rig.beats_with('plain', STALE, 'disabled')
    rig.ros.call(SetBool, f'/{NODE}/enable', SetBool.Request(data=True))
    rig.works()


@fault(
    'the node is deactivated with frames under way',
    '`status` is STALE, `inactive`; the account adds up',
    'activate',
)
def _(rig):
    rig.send('thinker', rig.image('thinker', marked('slow', SIZE_HW)))
    rig.send()
    assert rig.ros.transition(NODE, 'deactivate')
    rig.beats_with('plain', STALE, 'inactive')
    rig.until(lambda: rig.count('thinker', 'pending') == 0, 'nothing pending')
    assert rig.is_balanced('thinker')
    assert rig.ros.call(Trigger, f'/{NODE}/segment').message == 'the node is not active'
    assert rig.ros.transition(NODE, 'activate')
    rig.works()


@fault('a transition that is not possible now', 'change_state says no; one line in the log')
def _(rig):
    assert not rig.ros.transition(NODE, 'configure')
    # The latter is said by rclpy itself, from Kilted on.
    said = ('transition configure is not possible now: the node is active', 'transition 1 ')
    rig.until(lambda: any(text in rig.node.log for text in said), 'the refusal in the log')
    assert rig.ros.state(NODE) == 'active'
    rig.works()


# Calibration and depth


@fault('no camera_info', '`depth_uncalibrated`, WARN; labels go on, nothing made from depth')
def _(rig, deep):
    deep.suffers('uncalibrated')
    deep.works()


@fault(
    'camera_info of another size', 'one line with both sizes, `depth_uncalibrated`; labels go on'
)
def _(rig, deep):
    other = intrinsics_to_camera_info(CALIBRATION.resized((32, 24)), make_header(1, 'optical'))
    deep.suffers('uncalibrated', lambda: deep.info.publish(other))
    rig.logs('describes images of 32x24, /deep/image_raw has 64x48')
    deep.works()


@fault('camera_info of zeros (no calibration)', '`depth_uncalibrated`, WARN; labels go on')
def _(rig, deep):
    deep.works()
    zeros = CameraInfo(width=64, height=48)

    def publish():
        deep.info.publish(zeros)
        deep.depth_info.publish(zeros)

    deep.suffers('uncalibrated', publish)
    deep.works()


@fault('no depth image', '`depth_missing` or `depth_unpaired`, WARN; labels go on')
def _(rig, deep):
    deep.calibrate()
    before = rig.count('deep', 'depth_missing') + rig.count('deep', 'depth_unpaired')

    def is_counted():
        deep.send(depth_offset_ns=None)
        time.sleep(0.03)
        return rig.count('deep', 'depth_missing') + rig.count('deep', 'depth_unpaired') > before

    rig.until(is_counted, 'colour without depth')
    deep.works()


@fault('depth with other stamps', '`depth_unpaired`, WARN with the distance; labels go on')
def _(rig, deep):
    deep.works()
    deep.suffers('unpaired', depth_offset_ns=5_000_000)
    rig.logs('the nearest is')
    deep.works()


@fault('depth in another frame', '`depth_mismatched`, WARN; labels go on')
def _(rig, deep):
    deep.suffers('mismatched', deep.calibrate, frame_id='depth_optical')
    rig.logs("got 'depth_optical'")
    deep.works()


@fault('depth of another shape', '`depth_mismatched`, WARN; labels go on')
def _(rig, deep):
    deep.suffers('mismatched', deep.calibrate, depth_mm=np.full((50, 30), 1500, np.uint16))
    deep.works()


@fault('depth in an encoding that holds none', '`depth_malformed`, WARN; labels go on')
def _(rig, deep):
    deep.suffers(
        'malformed', deep.calibrate, depth_mm=np.zeros((*SIZE_HW, 3), np.uint8), encoding='rgb8'
    )
    deep.works()


@fault(
    'depth with fewer bytes than its header says', 'no cloud, the cause in the log; labels go on'
)
def _(rig, deep):
    deep.calibrate()
    mark = len(rig.node.log)
    sent_ns = []

    def has_labels():
        sent_ns.append(deep.send(data=b'\x00' * 100))
        time.sleep(0.03)
        return any(stamp_to_ns(m.header.stamp) in sent_ns for m in list(rig.labels['deep']))

    rig.until(has_labels, 'labels')
    rig.until(lambda: '/deep/depth/image_raw: ' in rig.node.log[mark:], 'the cause')
    assert not deep.has_cloud(*sent_ns)
    deep.works()


@fault('depth without one valid pixel', '`depth_empty`, WARN; labels go on')
def _(rig, deep):
    deep.suffers('empty', deep.calibrate, depth_mm=np.zeros(SIZE_HW, np.uint16))
    deep.works()


# The model


@fault('the model gives NaN', '`dropped_model_error`, ERROR; no labels are published')
def _(rig):
    rig.costs('model_error', 'thinker', picture=marked('nan', SIZE_HW))
    rig.says('thinker', 'the model failed on', ERROR)
    rig.logs('expected numbers, got NaN')
    rig.works('thinker')


@fault(
    'the model raises',
    '`dropped_model_error`, ERROR with the reason',
    f'{NEXT}; after `max_model_failures` in a row the model is loaded anew',
)
def _(rig):
    rig.costs('model_error', 'thinker', picture=marked('raise', SIZE_HW))
    rig.logs('indices element out of data bounds')
    rig.works('thinker')


@fault(
    'the device is out of memory',
    'caches are freed, images tried one by one; then `dropped_model_error`, ERROR',
)
def _(rig):
    rig.costs('model_error', 'thinker', picture=marked('memory', SIZE_HW))
    rig.logs('caches are freed and 1 image(s) tried one by one')
    rig.works('thinker')


@fault('one bad image in a batch', 'that one is lost, the others are published')
def _(rig):
    before = rig.count('thinker', 'dropped_model_error')
    num_labels = len(rig.labels['plain'])
    slow, bad = marked('slow', SIZE_HW), marked('nan', SIZE_HW)
    rig.send('deep', rig.image('deep', slow))
    time.sleep(0.1)  # while that is segmented, these two gather
    rig.send('thinker', rig.image('thinker', bad))
    rig.send('plain')
    rig.until(lambda: rig.count('thinker', 'dropped_model_error') > before, 'the bad one lost')
    rig.until(lambda: len(rig.labels['plain']) > num_labels, 'the good one')
    rig.works('thinker')


# Parameters


@fault('a parameter of the wrong type', 'refused with what was expected', 'none needed')
def _(rig):
    result = rig.set(confidence_threshold='high')
    assert not result.successful
    assert 'confidence_threshold: expected a number' in result.reason
    rig.works()


@fault('a parameter out of its range', 'refused with the range', 'none needed')
def _(rig):
    result = rig.set(confidence_threshold=1.5)
    assert not result.successful
    assert 'expected 0 to 1, got 1.5' in result.reason
    rig.works()


@fault('thresholds in the wrong order', 'refused', 'none needed')
def _(rig):
    result = rig.set(silence_thresholds_s=[5.0, 1.0])
    assert not result.successful
    assert 'expected [warning, error]' in result.reason
    rig.works()


@fault('a parameter that only a configure can change', 'refused, saying so', 'none needed')
def _(rig):
    result = rig.set(max_pixels=10)
    assert not result.successful
    assert 'takes effect when the node is configured' in result.reason
    rig.works()


@fault('a class that the model does not have', 'refused with the classes it has', 'none needed')
def _(rig):
    result = rig.set(mask_classes=['unicorn'])
    assert not result.successful
    assert 'unicorn' in result.reason
    rig.works()


@fault('another model that does not exist', 'refused; the one that runs goes on', 'none needed')
def _(rig):
    result = rig.set(model='no_such_model')
    assert not result.successful
    assert 'no_such_model' in result.reason
    rig.works()


@fault(
    'another model whose file was altered',
    'WARN on the device status, ERROR in the log; the one that runs goes on',
    'none needed',
)
def _(rig):
    card = write_fault_model(rig.folder, 'altered')
    with card.with_suffix('.onnx').open('ab') as file:
        file.write(b'x')
    rig.set(model=str(card))
    rig.logs('cannot swap to')
    rig.says('device', 'cannot swap to', WARN)
    rig.works()


@fault(
    "the model's file is gone", 'nothing while it runs', 'the next configure says what is missing'
)
def _(rig):
    path = rig.folder / 'faulty.onnx'
    kept = shutil.move(path, path.with_suffix('.kept'))
    try:
        rig.works()
        assert rig.ros.transition(NODE, 'deactivate')
        assert rig.ros.transition(NODE, 'cleanup')
        assert not rig.ros.transition(NODE, 'configure', 60.0)
        rig.says('device', 'faulty.onnx', ERROR)
        assert rig.ros.state(NODE) == 'unconfigured'
    finally:
        shutil.move(kept, path)
    assert rig.ros.transition(NODE, 'configure', 60.0)
    assert rig.ros.transition(NODE, 'activate')
    rig.works()


# Nodes of their own, which must not hear of each other: what a model can do to one


@fault(
    'the model hangs',
    'ERROR, `status` says `failing`; after `model_timeout_s` its frames are `dropped_model_error`',
    'the model is loaded anew beside the one that hangs',
)
def _(lone):
    node = lone({'model_timeout_s': 0.0, 'silence_thresholds_s': [0.3, 0.6], **BEATING})
    rig = lone.look(node)
    rig.works('lonely')
    rig.send('lonely', picture=marked('hang', SIZE_HW))
    rig.beats_with('lonely', ERROR, 'failing')
    rig.says('lonely', 'the model has kept images waiting for', ERROR)
    lone.ros.set_params(LONE_NODE, model_timeout_s=2.0)
    node.wait_for_log('the model has worked on one batch for more than 2 s: it is loaded anew')
    rig.works('lonely')
    rig.until(lambda: rig.values('device')['model_reloads'] == '1', 'the reload')
    rig.until(lambda: rig.count('lonely', 'dropped_model_error') == 1, 'the frame it hung on')


@fault(
    'the model hangs again, without a success in between',
    'ERROR with the reason, unconfigured; with `exit_on_fault` the process ends with code 70',
    'a new process: `respawn` in launch',
)
def _(lone):
    node = lone({'model_timeout_s': 0.6, 'exit_on_fault': True, **BEATING}, expect_exit=70)
    rig = lone.look(node)
    rig.works('lonely')
    deadline_s = time.monotonic() + 30.0
    while node.is_running() and time.monotonic() < deadline_s:
        rig.send('lonely', picture=marked('hang', SIZE_HW))
        time.sleep(0.1)
    assert node.wait() == 70
    assert 'the model is lost: ' in node.log
    assert 'hangs again after it was loaded anew' in node.log


@fault(
    'the model fails on and on, loaded anew or not',
    'ERROR with the reason, unconfigured; `status` ends',
    'with `autostart` the node configures itself anew, after `restart_delay_s` at first',
)
def _(lone):
    node = lone({'restart_delay_s': 0.5, 'max_model_failures': 3, **BEATING})
    rig = lone.look(node)
    rig.works('lonely')

    def is_lost():
        rig.send('lonely', picture=marked('raise', SIZE_HW))
        time.sleep(0.03)
        return 'configures anew in 0.5 s' in node.log

    rig.until(is_lost, 'the node to give up', 30.0)
    assert '3 calls in a row failed, the last one with' in node.log
    assert 'after it was loaded anew' in node.log
    rig.works('lonely')
    rig.until(lambda: rig.status('device').level == OK, 'a device that is well')


BEATING = {'cameras': ['lonely'], 'status_period_s': 0.1}


# Nodes of their own: what is wrong from the start, and time


@fault(
    '`device: cuda` where there is none',
    'ERROR with the reason; never the CPU instead',
    'correct it',
)
def _(lone):
    import torch

    if torch.cuda.is_available():
        pytest.skip('this machine has a CUDA device')
    node = lone({'device': 'cuda'})
    node.wait_for_log("device: expected 'cuda', but torch", 60.0)
    assert lone.ros.state(LONE_NODE) == 'unconfigured'


@fault(
    'a cache that cannot be written',
    'ERROR naming the folder',
    'correct `SEG_PERCEPTION_CACHE`, configure',
)
def _(lone):
    card = yaml.safe_load(write_fault_model(lone.folder).read_text())
    card['weights']['uri'] = 'https://localhost:9/faulty.onnx'
    path = lone.folder / 'far.yaml'
    path.write_text(yaml.safe_dump(card))
    (lone.folder / 'a_file').touch()
    node = lone(
        {'model': str(path)}, env={'SEG_PERCEPTION_CACHE': str(lone.folder / 'a_file' / 'cache')}
    )
    node.wait_for_log('cannot configure', 60.0)
    assert lone.ros.state(LONE_NODE) == 'unconfigured'
    assert 'a_file' in node.log


@fault('a wrong parameter at the start', 'one line, exit code 1', 'correct it')
def _(lone):
    node = lone({'silence_thresholds_s': [5.0, 1.0]}, expect_exit=1)
    assert node.wait(60.0) == 1
    [line] = [line for line in node.log.splitlines() if line.startswith('error: ')]
    assert 'silence_thresholds_s: expected [warning, error]' in line


@fault(
    'sim time: no /clock, /clock stands still, a recording that begins anew, a leap',
    'WARN on the device status: what is wrong with the clock; diagnostics and `status` go on',
    'by itself; tracking and pairing start anew after a jump',
)
def _(lone):
    node = lone({'use_sim_time': True, 'cameras': ['sim'], 'object_tracking': True})
    rig = lone.look(node, 'sim')
    rig.says('device', 'nothing came on /clock', WARN)
    clock = rig.ros.publisher('/clock', Clock, 10)

    def tick(seconds):
        clock.publish(Clock(clock=make_header(round(seconds * S), '').stamp))

    def play(from_s):
        """Time and images from then on, until labels come."""
        num_labels = len(rig.labels['sim'])
        times = iter(range(10_000))

        def is_there():
            now_s = from_s + next(times) * 0.05
            tick(now_s)
            time.sleep(0.05)
            rig.send('sim', stamp_ns=round(now_s * S))
            return len(rig.labels['sim']) > num_labels

        rig.until(is_there, 'labels in sim time', 30.0)

    play(1000.0)
    rig.until(lambda: rig.status('device').level == OK, 'a clock that runs')
    play(100.0)
    rig.says('device', 'the clock jumped by -', WARN)
    rig.logs('tracking and pairing start anew')
    play(5000.0)
    rig.says('device', 'the clock jumped by +', WARN)
    rig.says('device', '/clock stands still', WARN)
    play(5100.0)


GROUPED = [fault for fault in FAULTS if 'lone' not in fault.inject.__code__.co_varnames]
LONE = [fault for fault in FAULTS if fault not in GROUPED]


@pytest.fixture(scope='module')
def rig(ros_executor, tmp_path_factory):
    """One node for most faults."""
    pytest.importorskip('onnxruntime', reason="onnxruntime (extra 'onnx') is not installed")
    pytest.importorskip('onnx', reason='onnx is not installed')
    folder = tmp_path_factory.mktemp('faults')
    node = rclpy.create_node('fault_injection', context=ros_executor.context)
    ros_executor.add_node(node)
    spawner = Spawner(folder)
    try:
        yield FaultRig(Ros(node), spawner, folder)
    finally:
        spawner.stop_all()
        ros_executor.leaving.put((node, _Gone()))


class _Gone:
    def set(self) -> None:
        """Nobody waits for the node to be gone."""


@pytest.fixture(scope='module')
def deep(rig):
    """The depth camera."""
    return DepthCamera(rig)


@pytest.fixture
def lone(spawn, ros, tmp_path):
    """Starts a node for one fault."""
    pytest.importorskip('onnxruntime', reason="onnxruntime (extra 'onnx') is not installed")

    class Lone:
        folder = tmp_path

        def __init__(self):
            self.ros = ros

        def __call__(self, params, **kwargs):
            small = {'model': str(write_fault_model(tmp_path)), 'num_threads': 1}
            params = {**small, 'diagnostics_period_s': 0.1, **params}
            return spawn('node', params, args=['-r', f'__node:={LONE_NODE}'], **kwargs)

        def look(self, node, camera='lonely'):
            node.wait_for_log('loaded in', 60.0)
            return FaultRig.at(ros, node, LONE_NODE, [camera])

    return Lone()


@pytest.mark.parametrize('row', GROUPED, ids=[row.name for row in GROUPED])
@pytest.mark.distro
def test_fault(rig, request, row):
    mark = len(rig.node.log)
    needs_depth = 'deep' in row.inject.__code__.co_varnames[: row.inject.__code__.co_argcount]
    row.inject(rig, request.getfixturevalue('deep')) if needs_depth else row.inject(rig)
    assert rig.node.is_running()
    assert 'Traceback' not in rig.node.log[mark:]


@pytest.mark.parametrize('row', LONE, ids=[row.name for row in LONE])
def test_fault_from_the_start(lone, row):
    row.inject(lone)


@pytest.mark.distro
def test_every_frame_of_every_camera_was_accounted_for(rig):
    for camera in rig.labels:
        rig.until(
            lambda camera=camera: rig.values(camera).get('pending') == '0',
            f'{camera}: nothing pending',
        )
        assert rig.is_balanced(camera)


def test_the_page_shows_this_matrix():
    lines = ['| fault | what is seen | recovery |', '|---|---|---|']
    lines += [f'| {row.name} | {row.seen} | {row.recovery} |' for row in FAULTS]
    table = '\n'.join(lines) + '\n'
    assert len(FAULTS) >= 40
    assert len({row.name for row in FAULTS}) == len(FAULTS)
    assert table in PAGE.read_text(encoding='utf-8'), f'put this into docs/faults.md:\n{table}'
