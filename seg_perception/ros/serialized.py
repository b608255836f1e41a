"""Publishes and takes serialised messages without rclpy's copies of them.

rclpy takes and hands out such messages as ``bytes``, one copy and one allocation more each way,
and holds the interpreter's lock meanwhile. These functions call what rclpy itself calls; where
that cannot be found, they leave it to rclpy.

Sources: rcl/publisher.h, rcl/subscription.h, rcutils/types/uint8_array.h, rcutils/allocator.h,
the same from Humble to Kilted.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from rclpy.logging import get_logger
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


class _Rcl:
    """The functions of rcl and rcutils, which rclpy has loaded.

    Raises:
        OSError: there are no libraries of these names.
        AttributeError: they lack a function.
    """

    def __init__(self) -> None:
        array, pointer = ctypes.POINTER(_ByteArray), ctypes.c_void_p
        rcutils, rcl = ctypes.CDLL('librcutils.so'), ctypes.CDLL('librcl.so')
        get_allocator = rcutils.rcutils_get_default_allocator
        get_allocator.argtypes, get_allocator.restype = [], _Allocator
        self.allocator = get_allocator()
        self.free = rcutils.rcutils_uint8_array_fini
        self.free.argtypes = [array]
        self.reset_error = rcutils.rcutils_reset_error
        self.reset_error.argtypes, self.reset_error.restype = [], None
        self.publish = rcl.rcl_publish_serialized_message
        self.publish.argtypes = [pointer, array, pointer]
        self.take = rcl.rcl_take_serialized_message
        self.take.argtypes = [pointer, array, pointer, pointer]


def _find_rcl() -> _Rcl | None:
    try:
        return _Rcl()
    except (OSError, AttributeError) as error:
        get_logger('seg_perception').warning(
            f'images are taken and published through copies, which costs time: {error}'
        )
        return None


_rcl = _find_rcl()
_OK = 0
_NOTHING_TAKEN = 401  # RCL_RET_SUBSCRIPTION_TAKE_FAILED


def publish_serialized(publisher: Publisher, message: U8) -> None:
    """Publishes a serialised message, which may be changed afterwards.

    Raises:
        InvalidHandle: the publisher was destroyed.
        RuntimeError: rcl could not.
    """
    if _rcl is None:
        publisher.publish(message.tobytes())
        return
    array = _ByteArray(message.ctypes.data, message.nbytes, message.nbytes)
    with publisher.handle:
        code = _rcl.publish(publisher.handle.pointer, array, None)
    if code != _OK:
        raise _failure(_rcl, code, f'publish on {publisher.topic}')


def take_serialized(subscription: Subscription) -> memoryview | None:
    """Takes a message, serialised and read-only; None where there is none.

    Raises:
        InvalidHandle: the subscription was destroyed.
        RuntimeError: rcl could not.
    """
    if _rcl is None:
        with subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, True)
        return memoryview(taken[0]) if taken is not None else None
    message = _Taken(_rcl)
    with subscription.handle:
        code = _rcl.take(subscription.handle.pointer, message.array, None, None)
    if code == _NOTHING_TAKEN:
        return None
    if code != _OK:
        raise _failure(_rcl, code, f'take from {subscription.topic_name}')
    return message.view()


class _Taken:
    """A message in memory of rcl's, which lives as long as what views it."""

    def __init__(self, rcl: _Rcl) -> None:
        self._free = rcl.free
        self.array = _ByteArray(allocator=rcl.allocator)

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
            self._free(self.array)


def _failure(rcl: _Rcl, code: int, what: str) -> RuntimeError:
    rcl.reset_error()
    return RuntimeError(f'rcl could not {what}: error {code}, see rcl/types.h')
