"""How well a camera is served: what its account and timing mean, by the node's thresholds."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from seg_perception.ros.accounting import DropReason, Snapshot
from seg_perception.ros.depth import DepthSnapshot
from seg_perception.ros.params import CameraParameters, Parameters
from seg_perception.ros.prompts import PromptSnapshot
from seg_perception.ros.timing import Arrivals

RECENT_S = 10.0
"""How long a dropped frame or an odd stamp shows in a camera's level."""
SETTLED_S = 3.0
"""A camera's rate is not judged sooner after the node subscribed to it."""

_UNUSABLE = (DropReason.MALFORMED, DropReason.UNSUPPORTED, DropReason.STALE)


class Level(enum.IntEnum):
    """How bad it is, as diagnostic_msgs/DiagnosticStatus counts."""

    OK = 0
    WARN = 1
    ERROR = 2


class State(str, enum.Enum):
    """What becomes of a camera's images now."""

    ACTIVE = 'active'
    """They come, and outputs are published."""
    IDLE = 'idle'
    """Nobody listens to an output, so the node does not listen to the camera."""
    DISABLED = 'disabled'
    """``~/enable`` switched the node off."""
    INACTIVE = 'inactive'
    """The node was deactivated."""
    SILENT = 'silent'
    """None come."""
    UNUSABLE = 'unusable'
    """They come and cannot be used, or come too late."""
    UNASKED = 'unasked'
    """They come, and no prompt says what to look for."""
    FAILING = 'failing'
    """They come and the model does not do its work."""

    @property
    def is_publishing(self) -> bool:
        """Whether the absence of an object from the outputs may be taken for its absence."""
        return self is State.ACTIVE


@dataclass(frozen=True, slots=True)
class CameraReport:
    """All that is known of a camera at one moment.

    Attributes:
        topic: its image topic.
        account: its frames.
        arrivals: their timing.
        listening_s: seconds since the node subscribed to it; None where it is not subscribed.
        off_state: why it is not subscribed.
        node_failure: why the node cannot serve any camera; empty where it can.
        labels_from: the model that made its last labels.
        depth: its depth images; None where it has none.
        prompts: what it is asked for; None where the model does not take prompts.
    """

    topic: str
    account: Snapshot
    arrivals: Arrivals = field(default_factory=Arrivals)
    listening_s: float | None = None
    off_state: State = State.IDLE
    node_failure: str = ''
    labels_from: str = ''
    depth: DepthSnapshot | None = None
    prompts: PromptSnapshot | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """A judgement, with the reason."""

    level: Level
    state: State
    message: str


def judge(report: CameraReport, parameters: Parameters, camera: CameraParameters) -> Health:
    """The worst of what is wrong; all of what is equally bad is told.

    Args:
        report: of the camera.
        parameters: the node's, with its thresholds.
        camera: the camera's.
    """
    if report.node_failure:
        return Health(Level.ERROR, State.FAILING, report.node_failure)
    if report.listening_s is None:
        reasons = {
            State.IDLE: 'not listening: no output is wanted',
            State.DISABLED: 'not listening: the node is disabled (~/enable)',
            State.INACTIVE: 'not listening: the node is inactive',
        }
        return Health(Level.OK, report.off_state, reasons[report.off_state])
    findings = list(_findings(report, report.listening_s, parameters, camera))
    if not findings:
        return Health(Level.OK, State.ACTIVE, f'{report.account.rate_hz:.1f} Hz')
    level = max(finding.level for finding in findings)
    worst = [finding for finding in findings if finding.level is level]
    stopped = [finding.state for finding in worst if not finding.state.is_publishing]
    state = stopped[0] if stopped else State.ACTIVE
    return Health(level, state, '; '.join(finding.message for finding in worst))


def _findings(
    report: CameraReport, listening_s: float, parameters: Parameters, camera: CameraParameters
) -> Iterator[Health]:
    account, arrivals = report.account, report.arrivals
    if busy := _exceeds(account.busy_s, parameters.silence_thresholds_s):
        text = f'the model has kept images waiting for {account.busy_s:.1f} s'
        yield Health(busy, State.FAILING, text)
    silent_s = min(listening_s, _or_inf(account.age_s))
    silence = _exceeds(silent_s, parameters.silence_thresholds_s)
    if silence:
        yield Health(silence, State.SILENT, f'no image on {report.topic} for {silent_s:.1f} s')
        return
    recent = {r for r, age_s in account.since_drop_s.items() if age_s < RECENT_S}
    lost_s = min(listening_s, _or_inf(account.since_publish_s))
    is_lost = _exceeds(lost_s, parameters.silence_thresholds_s) is Level.ERROR
    if DropReason.MODEL_ERROR in recent:
        num_failed = account.dropped[DropReason.MODEL_ERROR]
        # Every failure is an error; that nothing at all comes through is another state.
        state = State.FAILING if lost_s > 1.0 else State.ACTIVE
        yield Health(Level.ERROR, state, f'the model failed on {num_failed} frames')
    if DropReason.SERVER in recent:
        num_lost = account.dropped[DropReason.SERVER]
        is_gone = lost_s > 1.0
        yield Health(
            Level.ERROR if is_gone else Level.WARN,
            State.FAILING if is_gone else State.ACTIVE,
            f"the model's server has not answered in time on {num_lost} frames",
        )
    if unusable := [f'{account.dropped[r]} {r.value}' for r in _UNUSABLE if r in recent]:
        level, state = (Level.ERROR, State.UNUSABLE) if is_lost else (Level.WARN, State.ACTIVE)
        yield Health(level, state, f'unusable frames: {", ".join(unusable)}')
    expected_hz = camera.expected_rate_hz
    if expected_hz and listening_s > max(SETTLED_S, 3.0 / expected_hz):
        slow = _falls_below(arrivals.rate_hz / expected_hz, parameters.rate_thresholds)
        text = f'{arrivals.rate_hz:.1f} of {expected_hz:.1f} Hz arrive on {report.topic}'
        if slow:
            yield Health(slow, State.ACTIVE, text)
    age_s = arrivals.age_ms[0] * 1e-3
    if late := _exceeds(age_s, parameters.age_thresholds_s):
        text = f'images are {age_s:.1f} s old when they arrive'
        yield Health(late, State.ACTIVE, f'{text}: a slow driver, another clock or a recording')
    if odd := [f for f, since_s in arrivals.since_fault_s.items() if since_s < RECENT_S]:
        text = ', '.join(f'{arrivals.faults[fault]} {fault}' for fault in odd)
        yield Health(Level.WARN, State.ACTIVE, f'odd stamps: {text}')
    if report.prompts is not None:
        yield from _prompt_findings(report.prompts)
    if report.depth is not None and (faults := _recent_faults(report.depth)):
        yield Health(Level.WARN, State.ACTIVE, f'{report.depth.topic}: {faults}')


def _prompt_findings(prompts: PromptSnapshot) -> Iterator[Health]:
    if prompts.last_refusal:
        yield Health(Level.WARN, State.ACTIVE, f'prompts refused: {prompts.last_refusal}')
    if prompts.unasked_frame_id:
        text = (
            f"prompts are for frame_id '{', '.join(prompts.frame_ids)}', images have "
            f"'{prompts.unasked_frame_id}'"
        )
        yield Health(Level.WARN, State.UNASKED, text)
    elif not prompts.names:
        yield Health(Level.OK, State.UNASKED, 'no prompts: nothing is segmented')


def _recent_faults(depth: DepthSnapshot) -> str:
    """Why images had no depth lately; empty where all had."""
    recent = [fault for fault, age_s in depth.since_fault_s.items() if age_s < RECENT_S]
    return ', '.join(f'{depth.faults[fault]} images with depth {fault}' for fault in recent)


def _exceeds(value: float, thresholds: tuple[float, ...]) -> Level:
    """The level of a value that should be small; a threshold of 0 is none, NaN exceeds none."""
    warn, error = thresholds
    if error and value > error:
        return Level.ERROR
    return Level.WARN if warn and value > warn else Level.OK


def _falls_below(value: float, thresholds: tuple[float, ...]) -> Level:
    """The level of a value that should be large."""
    warn, error = thresholds
    if value < error:
        return Level.ERROR
    return Level.WARN if value < warn else Level.OK


def _or_inf(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds
