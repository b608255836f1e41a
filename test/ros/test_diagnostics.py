"""What /diagnostics says of a camera."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from seg_perception.ros.accounting import CameraAccount, DropReason
from seg_perception.ros.diagnostics import RECENT_S, SILENT_AFTER_S, camera_status


def status_of(account, listening_s=60.0, **changes):
    import dataclasses

    snapshot = dataclasses.replace(account.snapshot(), **changes)
    return camera_status('segmentation: front', '/front/image_raw', listening_s, snapshot)


@pytest.fixture
def account():
    opened = CameraAccount()
    opened.receive()
    opened.publish(5.0, {'infer': 3.0})
    return opened


def test_values_are_the_account(account):
    status = status_of(account)
    values = {value.key: value.value for value in status.values}
    assert status.level == DiagnosticStatus.OK
    assert (values['received'], values['published'], values['pending']) == ('1', '1', '0')
    assert {f'dropped_{reason.value}' for reason in DropReason} <= set(values)
    assert values['latency_p95_ms'] == '5.000'
    assert values['stage_infer_p50_ms'] == '3.000'


@pytest.mark.parametrize(
    ('reason', 'level', 'text'),
    [
        (DropReason.MODEL_ERROR, DiagnosticStatus.ERROR, 'the model failed on 1 frames'),
        (DropReason.MALFORMED, DiagnosticStatus.WARN, 'unusable frames: 1 malformed'),
        (DropReason.UNSUPPORTED, DiagnosticStatus.WARN, 'unusable frames: 1 unsupported'),
        (DropReason.SUPERSEDED, DiagnosticStatus.OK, 'Hz'),
    ],
)
def test_drops_show_for_a_while(account, reason, level, text):
    account.receive()
    account.drop(reason)
    status = status_of(account)
    assert (status.level, text in status.message) == (level, True)
    later = status_of(account, since_drop_s={reason.value: RECENT_S + 1})
    assert later.level == DiagnosticStatus.OK


def test_silence_shows(account):
    assert (
        'no image on /front/image_raw for' in status_of(account, age_s=SILENT_AFTER_S + 1).message
    )
    assert 'no image on /front/image_raw for 60.0 s' in status_of(CameraAccount()).message
    # Not at once after a pause: the camera could not be heard then.
    after_a_pause = status_of(account, listening_s=0.5, age_s=100.0)
    assert after_a_pause.level == DiagnosticStatus.OK
    assert status_of(account, listening_s=None).message.startswith('not listening')
