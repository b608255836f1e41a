"""What /diagnostics and a heartbeat say of a camera."""

from __future__ import annotations

import dataclasses

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from seg_perception.ros.accounting import CameraAccount, DropReason
from seg_perception.ros.diagnostics import camera_status, heartbeat_status
from seg_perception.ros.health import RECENT_S, CameraReport, Level, State, judge
from seg_perception.ros.params import CameraParameters, Parameters
from seg_perception.ros.timing import Arrivals

TOPIC = '/front/image_raw'


def report_of(account, listening_s=60.0, arrivals=None, **changes):
    snapshot = dataclasses.replace(account.snapshot(), **changes)
    return CameraReport(TOPIC, snapshot, arrivals or Arrivals(), listening_s)


def health_of(report, camera=None, **parameters):
    return judge(report, Parameters(**parameters), camera or CameraParameters())


@pytest.fixture
def account():
    opened = CameraAccount()
    opened.receive()
    opened.publish(7, 5.0, {'infer': 3.0})
    return opened


def test_values_are_the_account(account):
    arrivals = Arrivals(29.0, (0.5, 2.0), 30.0, (0.0, 0.1), (9.0, 10.0, 11.0), {'ahead': 4})
    report = report_of(account, arrivals=arrivals)
    status = camera_status('segmentation: front', report, health_of(report), 30.0)
    values = {value.key: value.value for value in status.values}
    assert (status.level, status.hardware_id) == (DiagnosticStatus.OK, TOPIC)
    assert (values['received'], values['published'], values['pending']) == ('1', '1', '0')
    assert {f'dropped_{reason.value}' for reason in DropReason} <= set(values)
    assert values['latency_p95_ms'] == '5.000'
    assert values['stage_infer_p50_ms'] == '3.000'
    assert (values['received_rate_hz'], values['expected_rate_hz']) == ('29.000', '30.000')
    assert (values['jitter_mean_ms'], values['stamp_jitter_max_ms']) == ('0.500', '0.100')
    assert (values['age_on_arrival_p50_ms'], values['stamps_ahead']) == ('9.000', '4')


@pytest.mark.parametrize(
    ('reason', 'level', 'text'),
    [
        (DropReason.MODEL_ERROR, Level.ERROR, 'the model failed on 1 frames'),
        (DropReason.MALFORMED, Level.WARN, 'unusable frames: 1 malformed'),
        (DropReason.UNSUPPORTED, Level.WARN, 'unusable frames: 1 unsupported'),
        (DropReason.STALE, Level.WARN, 'unusable frames: 1 stale'),
        (DropReason.SUPERSEDED, Level.OK, 'Hz'),
    ],
)
def test_drops_show_for_a_while(account, reason, level, text):
    account.receive()
    account.drop(reason)
    health = health_of(report_of(account))
    assert (health.level, text in health.message) == (level, True)
    later = report_of(account, since_drop_s={reason.value: RECENT_S + 1})
    assert health_of(later).level == Level.OK


@pytest.mark.parametrize(
    ('silent_s', 'level', 'state'),
    [
        (2.9, Level.OK, State.ACTIVE),
        (3.1, Level.WARN, State.SILENT),
        (11, Level.ERROR, State.SILENT),
    ],
)
def test_silence_shows(account, silent_s, level, state):
    health = health_of(report_of(account, age_s=silent_s))
    assert (health.level, health.state) == (level, state)
    assert level == Level.OK or health.message == f'no image on {TOPIC} for {silent_s:.1f} s'


def test_silence_counts_from_when_the_node_began_to_listen(account):
    assert 'for 60.0 s' in health_of(report_of(CameraAccount())).message
    assert health_of(report_of(account, listening_s=0.5, age_s=100.0)).level == Level.OK
    never = health_of(report_of(account, age_s=99.0), silence_thresholds_s=(0.0, 0.0))
    assert never.level == Level.OK


@pytest.mark.parametrize(
    ('rate_hz', 'level'), [(29.0, Level.OK), (20.0, Level.WARN), (8.0, Level.ERROR)]
)
def test_the_rate_is_held_against_what_is_expected(account, rate_hz, level):
    camera = CameraParameters(expected_rate_hz=30.0)
    report = report_of(account, arrivals=Arrivals(rate_hz))
    assert health_of(report, camera).level == level
    assert health_of(report).level == Level.OK, 'unknown: any rate will do'
    early = report_of(account, listening_s=1.0, arrivals=Arrivals(rate_hz))
    assert health_of(early, camera).level == Level.OK


@pytest.mark.parametrize(
    ('age_s', 'level'), [(0.1, Level.OK), (1.5, Level.WARN), (6.0, Level.ERROR)]
)
def test_old_images_show(account, age_s, level):
    report = report_of(account, arrivals=Arrivals(age_ms=(age_s * 1e3,) * 3))
    assert health_of(report, age_thresholds_s=(1.0, 5.0)).level == level


def test_odd_stamps_show_for_a_while(account):
    odd = Arrivals(faults={'zero': 3, 'ahead': 0}, since_fault_s={'zero': 1.0})
    health = health_of(report_of(account, arrivals=odd))
    assert (health.level, health.message) == (Level.WARN, 'odd stamps: 3 zero')
    past = dataclasses.replace(odd, since_fault_s={'zero': RECENT_S + 1.0})
    assert health_of(report_of(account, arrivals=past)).level == Level.OK


def test_the_worst_is_told(account):
    account.receive()
    account.drop(DropReason.MODEL_ERROR)
    odd = Arrivals(age_ms=(1500.0,) * 3, faults={'zero': 3}, since_fault_s={'zero': 1.0})
    report = report_of(account, arrivals=odd, since_publish_s=5.0)
    health = health_of(report)
    assert (health.level, health.state) == (Level.ERROR, State.FAILING)
    broken = health_of(dataclasses.replace(report, node_failure='the model hangs'))
    assert (broken.level, broken.message) == (Level.ERROR, 'the model hangs')


def test_only_unusable_images_are_an_error(account):
    account.receive()
    account.drop(DropReason.MALFORMED)
    health = health_of(report_of(account, since_publish_s=11.0))
    assert (health.level, health.state) == (Level.ERROR, State.UNUSABLE)


@pytest.mark.parametrize('state', [State.IDLE, State.DISABLED, State.INACTIVE])
def test_a_heartbeat_is_never_ok_while_nothing_is_published(account, state):
    report = dataclasses.replace(report_of(account, listening_s=None), off_state=state)
    health = health_of(report)
    assert (health.level, health.state) == (Level.OK, state)
    assert health.message.startswith('not listening')
    beat = heartbeat_status('segmentation: front', report, health)
    assert beat.level == DiagnosticStatus.STALE
    assert {pair.key: pair.value for pair in beat.values}['last_stamp_ns'] == '7'
    active = report_of(account)
    assert heartbeat_status('x', active, health_of(active)).level == DiagnosticStatus.OK


@pytest.mark.parametrize(
    ('busy_s', 'level', 'state'),
    [
        (2.9, Level.OK, State.ACTIVE),
        (4.0, Level.WARN, State.FAILING),
        (11, Level.ERROR, State.FAILING),
    ],
)
def test_a_model_that_keeps_images_waiting_shows(account, busy_s, level, state):
    health = health_of(report_of(account, busy_s=busy_s))
    assert (health.level, health.state) == (level, state)
