"""Messages that come past the executor."""

from __future__ import annotations

import threading
import time
from functools import partial
from itertools import pairwise

import pytest
from ros_harness import wait_until
from std_msgs.msg import String

from seg_perception.ros import qos
from seg_perception.ros.intake import Intake, _take_event, _take_message
from seg_perception.ros.log import ThrottledLog

pytestmark = pytest.mark.distro


class Lines(list):
    """Takes lines as an rclpy logger does."""

    error = list.append


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def intake(ros, lines):
    intake = Intake(ros.node.context, lambda: None, 0.05, ThrottledLog(lines))
    intake.start()
    yield intake
    intake.stop()
    assert not intake.is_alive()


def subscribe(ros, intake, topic, callback, profile=10):
    subscription = ros.node.create_subscription(
        String, topic, callback, profile, callback_group=intake.group
    )
    intake.add(subscription)
    return subscription


def test_messages_come_on_its_thread_until_removed(ros, intake):
    got = []
    subscription = subscribe(
        ros, intake, 'intake_a', lambda m: got.append((m.data, threading.current_thread().name))
    )
    publisher = ros.publisher('intake_a', String)
    publisher.publish(String(data='one'))
    wait_until(lambda: got, 10.0, 'a message')
    subscribe(ros, intake, 'intake_b', lambda m: got.append((m.data, 'b')))
    other = ros.publisher('intake_b', String)
    other.publish(String(data='two'))
    wait_until(lambda: len(got) == 2, 10.0, 'a message on the second topic')
    assert got == [('one', 'intake'), ('two', 'b')]
    intake.remove(subscription)
    ros.node.destroy_subscription(subscription)
    wait_until(
        lambda: publisher.get_subscription_count() == 0, 10.0, 'the end of the subscription'
    )
    other.publish(String(data='three'))
    wait_until(lambda: len(got) == 3, 10.0, 'a message after the other was removed')


def test_a_subscription_that_is_destroyed_as_its_message_is_taken_is_no_error(ros, intake, lines):
    def leave(_):
        for subscription in subscriptions:
            intake.remove(subscription)
            ros.node.destroy_subscription(subscription)
        for subscription in subscriptions:  # as where another thread has done it in this moment
            intake._call('taken', partial(_take_message, subscription))
        left.set()

    left = threading.Event()
    subscriptions = [subscribe(ros, intake, topic, leave) for topic in ('intake_e', 'intake_f')]
    publishers = [ros.publisher(topic, String) for topic in ('intake_e', 'intake_f')]
    for publisher in publishers:
        publisher.publish(String(data='one'))
    assert left.wait(10.0)
    assert lines == []


def test_what_a_destroyed_subscription_had_to_tell_is_no_error(ros, intake, lines):
    subscription = subscribe(ros, intake, 'intake_g', lambda _: None)
    handlers = list(subscription.event_handlers)
    assert handlers
    intake.remove(subscription)
    ros.node.destroy_subscription(subscription)
    for handler in handlers:
        handler._ready_to_take_data = True  # as where it is destroyed once the intake has looked
        intake._call('events', partial(_take_event, handler))
    assert lines == []


def test_a_failing_callback_does_not_end_it(ros, intake, lines):
    got = []

    def fail_first(message):
        got.append(message.data)
        if len(got) == 1:
            raise RuntimeError('the first one')

    subscribe(ros, intake, 'intake_c', fail_first)
    publisher = ros.publisher('intake_c', String)
    publisher.publish(String(data='a'))
    wait_until(lambda: lines, 10.0, 'the error')
    publisher.publish(String(data='b'))
    wait_until(lambda: got == ['a', 'b'], 10.0, 'the message after the error')
    [line] = lines
    assert '/intake_c' in line
    assert 'RuntimeError: the first one' in line


# rclpy itself says so through a method that it deprecates, on the test's executor thread.
@pytest.mark.filterwarnings('ignore:Deprecated in favor of:DeprecationWarning')
def test_incompatible_publishers_are_told(ros, intake):
    """QoS events come by the same way."""
    subscription = subscribe(ros, intake, 'intake_d', lambda _: None, qos.output())
    told = []
    for event in subscription.event_handlers:
        event.callback = told.append
    ros.node.create_publisher(String, 'intake_d', qos.sensor_input())
    wait_until(lambda: told, 10.0, 'the event')
    assert told[0].total_count == 1


def test_polls_meanwhile(ros):
    polled_s = []
    intake = Intake(
        ros.node.context, lambda: polled_s.append(time.monotonic()), 0.02, ThrottledLog(Lines())
    )
    intake.start()
    wait_until(lambda: len(polled_s) >= 5, 10.0, 'polls')
    intake.stop()
    assert min(b - a for a, b in pairwise(polled_s)) >= 0.02
    intake.stop()  # once more changes nothing
