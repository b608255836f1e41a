"""Publishes and takes serialised messages without rclpy's copies of them.

rclpy takes and hands out such messages as ``bytes``, one copy and one allocation more each way,
and holds the interpreter's lock meanwhile. These functions call what rclpy itself calls.

Sources: rcl/publisher.h, rcl/subscription.h, rcutils/types/uint8_array.h, rcutils/allocator.h,
the same from Humble to Kilted.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription

from seg_perception.structures import U8


class _Allocator(ctypes.Structure):
    """The type rcutils_allocator_t."""

    _fields_ = [
        (name, ctypes.c_void_p) for name in ['allocate', 'free', 'reallocate', 'zero', 'state']
    ]


class _ByteArray(ctypes.Structure):
    """The type rcutils_uint8_array_t."""

    _fields_ = [
        ('buffer', ctypes.c_void_p),
        ('length', ctypes.c_size_t),
        ('capacity', ctypes.c_size_t),
        ('allocator', _Allocator),
    ]


# rclpy has loaded both.
_rcutils = ctypes.CDLL('librcutils.so')
_rcl = ctypes.CDLL('librcl.so')
_rcutils.rcutils_get_default_allocator.restype = _Allocator
_publish = _rcl.rcl_publish_serialized_message
_publish.argtypes = [ctypes.c_void_p, ctypes.POINTER(_ByteArray), ctypes.c_void_p]
_take = _rcl.rcl_take_serialized_message
_take.argtypes = [ctypes.c_void_p, ctypes.POINTER(_ByteArray), ctypes.c_void_p, ctypes.c_void_p]

_OK = 0
_NOTHING_TAKEN = 401  # RCL_RET_SUBSCRIPTION_TAKE_FAILED


def publish_serialized(publisher: Publisher, message: U8) -> None:
    """Publishes a serialised message, which may be changed afterwards.

    Raises:
        InvalidHandle: the publisher was destroyed.
        RuntimeError: rcl could not.
    """
    array = _ByteArray(message.ctypes.data, message.nbytes, message.nbytes)
    with publisher.handle:
        code = _publish(publisher.handle.pointer, array, None)
    _check(code, f'publish on {publisher.topic}')


def take_serialized(subscription: Subscription) -> memoryview | None:
    """Takes a message, serialised and read-only; None where there is none.

    Raises:
        InvalidHandle: the subscription was destroyed.
        RuntimeError: rcl could not.
    """
    message = _Taken()
    with subscription.handle:
        code = _take(subscription.handle.pointer, message.array, None, None)
    if code == _NOTHING_TAKEN:
        return None
    _check(code, f'take from {subscription.topic_name}')
    return message.view()


class _Taken:
    """A message in memory of rcl's, which lives as long as what views it."""

    def __init__(self) -> None:
        self.array = _ByteArray(allocator=_rcutils.rcutils_get_default_allocator())

    def view(self) -> memoryview:
        """Its bytes."""
        return memoryview(np.asarray(self) if self.array.length else b'')  # type: ignore[arg-type]

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            'version': 3,
            'typestr': '|u1',
            'shape': (self.array.length,),
            'data': (self.array.buffer, True),
        }

    def __del__(self) -> None:
        if self.array.buffer:
            _rcutils.rcutils_uint8_array_fini(ctypes.byref(self.array))


def _check(code: int, what: str) -> None:
    if code != _OK:
        _rcutils.rcutils_reset_error()
        raise RuntimeError(f'rcl could not {what}: error {code}, see rcl/types.h')
