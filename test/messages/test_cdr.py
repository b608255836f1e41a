"""Serialised images, read and written by hand; rclpy's own conversion is the oracle."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import ros_harness  # noqa: F401  (sets the environment of ROS 2 first)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip('rclpy', reason='rclpy is not installed: run scripts/setup')

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image

from seg_perception.errors import ImageLayoutError
from seg_perception.image_memory import HEADROOM, empty_image
from seg_perception.messages.cdr import read_compressed_image, read_image, write_image
from seg_perception.ros.messages import array_to_image, make_header, stamp_to_ns, to_byte_array

UINT32 = st.integers(0, 2**32 - 1)
TEXT = st.text(st.characters(exclude_characters='\0', exclude_categories=['Cs']), max_size=9)
STAMP_NS = st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1)
HEADER = st.builds(make_header, STAMP_NS, TEXT)

# sec, nanosec, frame_id, height, width, encoding, is_bigendian, step, data
BIG_ENDIAN = bytes.fromhex(
    '00000000'
    '00000001 00000002 00000004 63616d00'
    '00000001 00000002 00000006 6d6f6e6f3800'
    '01 00 00000003 00000003 070809'
)


def image(**fields):
    data = fields.pop('data')
    message = Image(**fields)
    message.data = to_byte_array(data)
    return message


IMAGES = st.builds(
    image,
    header=HEADER,
    height=UINT32,
    width=UINT32,
    encoding=TEXT,
    is_bigendian=st.integers(0, 255),
    step=UINT32,
    data=st.binary(max_size=40),
)


def assert_same(frame, message):
    assert frame.stamp_ns == stamp_to_ns(message.header.stamp)
    assert frame.frame_id == message.header.frame_id
    assert (frame.height, frame.width) == (message.height, message.width)
    assert (frame.encoding, frame.step) == (message.encoding, message.step)
    assert frame.is_bigendian == bool(message.is_bigendian)
    assert bytes(frame.data) == bytes(message.data)


@given(IMAGES)
def test_images_are_read_as_rclpy_reads_them(message):
    assert_same(read_image(serialize_message(message)), message)


@given(HEADER, TEXT, st.binary(max_size=40))
def test_compressed_images_are_read_as_rclpy_reads_them(header, format_, data):
    message = CompressedImage(header=header, format=format_)
    message.data = to_byte_array(data)
    frame = read_compressed_image(serialize_message(message), 'front')
    assert frame.stamp_ns == stamp_to_ns(header.stamp)
    assert (frame.frame_id, frame.format, frame.camera) == (header.frame_id, format_, 'front')
    assert bytes(frame.data) == data


def test_big_endian_senders():
    frame = read_image(BIG_ENDIAN, 'front')
    assert (frame.stamp_ns, frame.frame_id) == (1_000_000_002, 'cam')
    assert (frame.height, frame.width, frame.encoding, frame.step) == (1, 2, 'mono8', 3)
    assert (frame.is_bigendian, bytes(frame.data)) == (True, b'\x07\x08\x09')
    assert frame.camera == 'front'
    assert_same(frame, deserialize_message(BIG_ENDIAN, Image))


def test_the_pixels_are_not_copied():
    buffer = serialize_message(image(data=b'\x01\x02'))
    assert np.shares_memory(
        np.frombuffer(read_image(buffer).data, np.uint8), np.frombuffer(buffer, np.uint8)
    )


@given(IMAGES, st.data())
def test_every_truncation_is_refused(message, data):
    buffer = serialize_message(message)
    length = data.draw(st.integers(0, len(buffer) - 1))
    with pytest.raises(ImageLayoutError):
        read_image(buffer[:length])


@given(IMAGES, st.data())
def test_what_is_altered_is_read_as_rclpy_reads_it_or_refused(message, data):
    buffer = bytearray(serialize_message(message))
    for _ in range(data.draw(st.integers(1, 3))):
        buffer[data.draw(st.integers(4, len(buffer) - 1))] = data.draw(
            st.sampled_from([0, 1, 127, 255])
        )
    try:
        frame = read_image(bytes(buffer))
    except ImageLayoutError:
        return
    assert_same(frame, deserialize_message(bytes(buffer), Image))


@given(st.binary(max_size=80))
def test_garbage_is_read_or_refused(buffer):
    for read in (read_image, read_compressed_image):
        try:
            frame = read(buffer)
        except ImageLayoutError:
            continue
        assert bytes(frame.data) in buffer


@pytest.mark.parametrize(
    ('buffer', 'text'),
    [
        (b'', 'got 0 B that start with nothing'),
        (b'\x00\x01\x00', 'got 3 B that start with 0001'),
        (b'\x00\x03\x00\x00' + bytes(60), 'start with 0003'),
        (
            b'\x00\x01\x00\x00' + bytes(8) + b'\xff\xff\xff\xff',
            'a field of 4294967295 B at byte 12',
        ),
    ],
)
def test_says_what_is_wrong(buffer, text):
    with pytest.raises(ImageLayoutError, match=text):
        read_image(buffer)


@given(
    hnp.arrays(
        st.sampled_from([np.dtype('u1'), np.dtype('<u2'), np.dtype('>u2')]),
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=5),
    ),
    TEXT,
    STAMP_NS,
    TEXT,
)
def test_images_are_written_as_rclpy_writes_them(pixels, encoding, stamp_ns, frame_id):
    message = array_to_image(pixels, encoding, make_header(stamp_ns, frame_id))
    written = write_image(pixels, encoding, stamp_ns, frame_id).tobytes()
    assert deserialize_message(written, Image) == message
    assert_same(read_image(written), message)
    by_rclpy = serialize_message(message)
    assert len(written) == len(by_rclpy)
    # rclpy leaves what happens to be in memory in the padding of the two strings.
    differing = [ours for ours, theirs in zip(written, by_rclpy, strict=True) if ours != theirs]
    assert differing in [[0] * num_bytes for num_bytes in range(7)]


@given(TEXT, STAMP_NS, TEXT)
def test_an_image_in_memory_with_room_is_not_copied(encoding, stamp_ns, frame_id):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    roomy = empty_image((3, 4), np.uint8)
    roomy[:] = pixels
    message = write_image(roomy, encoding, stamp_ns, frame_id)
    assert message.tobytes() == write_image(pixels, encoding, stamp_ns, frame_id).tobytes()
    assert np.shares_memory(message, roomy)
    np.testing.assert_array_equal(roomy, pixels)


def test_an_image_with_more_to_say_than_there_is_room_is_copied():
    roomy = empty_image((3, 4), np.uint8)
    roomy[:] = 7
    message = write_image(roomy, 'mono8', 1, 'x' * HEADROOM)
    assert not np.shares_memory(message, roomy)
    assert read_image(message.tobytes()).frame_id == 'x' * HEADROOM


def test_an_image_written_by_hand():
    pixels = np.array([[7, 8, 0], [9, 0, 0]], np.uint8)[:, :2]
    assert write_image(pixels, 'mono8', 1_000_000_002, 'cam').tobytes() == (
        b'\x00\x01\x00\x00'
        + struct.pack('<iII4s', 1, 2, 4, b'cam')
        + struct.pack('<III6sBx', 2, 2, 6, b'mono8', 0)
        + struct.pack('<II', 2, 4)
        + b'\x07\x08\x09\x00'
    )
