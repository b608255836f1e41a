"""What happens to the node, step by step: each does something and notes what the node said of it.

A step may leave the node in any state that `Stage.become_calm` brings back to normal.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from seg_perception.ros.soak.bad_messages import bad_messages
from seg_perception.ros.soak.stage import START_S, SoakCameraName, Stage, Stream

Step = Callable[[Stage, random.Random], None]

_SIZES_WH = ((160, 120), (320, 240), (424, 240), (640, 480), (646, 482), (1280, 720))
_ENCODINGS = ('rgb8', 'bgr8', 'mono8', 'yuv422', 'nv12', 'bayer_rggb8', 'rgba8', 'mono16')
_SILENCE_S = 20.0
_SENDING_TRIES = 5
_WARN = 1

_LIVE_PARAMETERS: Mapping[str, tuple[float | int | bool | str, ...]] = MappingProxyType(
    {
        'confidence_threshold': (0.0, 0.3, 0.9),
        'overlay_opacity': (0.0, 0.5, 1.0),
        'overlay_boxes': (False, True),
        'object_min_area_px': (1, 100, 5000),
        'batch_wait_ms': (0.0, 5.0),
        'max_frame_age_s': (0.0, 5.0),
        'front.max_rate_hz': (0.0, 2.0),
        'rear.weight': (0.5, 1.0, 4.0),
    }
)
_USUAL = {name: values[0] for name, values in _LIVE_PARAMETERS.items()} | {'rear.weight': 1.0}
_IMPOSSIBLE: Mapping[str, object] = MappingProxyType(
    {
        'confidence_threshold': 1.5,
        'overlay_opacity': 'a lot',
        'object_min_area_px': 0,
        'max_frame_age_s': -1.0,
        'front.max_rate_hz': float('nan'),
        'rear.weight': 0.0,
        'model': 'no_such_model',
        'cameras': ['front', 'front'],
        'max_pixels': 2.5,
    }
)


def change_images(stage: Stage, rng: random.Random) -> None:
    """Other sizes, encodings and rates."""
    stage.play(
        {
            camera.name: Stream(
                rng.choice(_SIZES_WH), rng.choice((1.0, 8.0, 30.0)), rng.choice(_ENCODINGS)
            )
            for camera in stage.cameras
        }
    )
    stage.until_labels()
    time.sleep(rng.uniform(0.2, 1.5))


def burst(stage: Stage, rng: random.Random) -> None:
    """Many images at once, then none."""
    stage.ask_camera('stop')
    camera = rng.choice(stage.cameras)
    encoding = 'jpeg' if camera.is_compressed else 'rgb8'
    for _ in range(rng.randint(1, 3)):
        num = rng.randint(10, 60)
        stage.ask_camera(
            'burst', topic=camera.topic, num=num, width=320, height=240, encoding=encoding
        )
        time.sleep(rng.uniform(0.0, 0.5))


def send_garbage(stage: Stage, rng: random.Random) -> None:
    """Messages that cannot be images, each counted as what it is."""
    stage.ask_camera('stop')
    camera = rng.choice(stage.cameras)
    _wait_for_listeners(stage, camera, is_wanted=True)
    kinds = list(bad_messages(is_compressed=camera.is_compressed))
    for kind in rng.sample(kinds, 3):
        _send_bad(stage, camera, kind)


def fall_silent(stage: Stage, rng: random.Random) -> None:
    """One camera stops without leaving; the node has to say so, and that it is over."""
    silent = rng.choice(stage.cameras)
    for camera in stage.cameras:
        if stage.status(camera.name)['level'] >= _WARN:
            # Something older is still being reported; silence could not be told from it.
            _wait_for_level(stage, camera, is_well=True)
    stage.play_calmly(silent=silent.name)
    is_reported = _wait_for_level(stage, silent, is_well=False)
    stage.ledger.fault('silent camera', is_reported, stage.status(silent.name)['message'])
    stage.play_calmly()
    is_over = _wait_for_level(stage, silent, is_well=True)
    if not is_over:
        stage.ledger.problem(f'{silent.name}: still {stage.status(silent.name)["message"]!r}')


def leave_and_return(stage: Stage, rng: random.Random) -> None:
    """A camera's publisher goes away and comes back."""
    stage.ask_camera('stop')
    for camera in rng.sample(stage.cameras, rng.randint(1, len(stage.cameras))):
        stage.ask_camera('withdraw', topic=camera.topic)
    time.sleep(rng.uniform(0.1, 2.0))


def kill_cameras(stage: Stage, rng: random.Random) -> None:
    """The cameras' process dies while it publishes."""
    stage.play_calmly()
    time.sleep(rng.uniform(0.0, 1.0))
    stage.restart_camera()


def change_parameters(stage: Stage, rng: random.Random) -> None:
    """Live parameters change, impossible values are refused, with images arriving."""
    for _ in range(4):
        name = rng.choice(list(_LIVE_PARAMETERS))
        stage.set_all(**{name: rng.choice(_LIVE_PARAMETERS[name])})
        time.sleep(rng.uniform(0.0, 0.4))
    for name in rng.sample(list(_IMPOSSIBLE), 3):
        [refusal] = stage.set_parameters(**{name: _IMPOSSIBLE[name]})
        stage.ledger.fault('impossible parameter', bool(refusal), f'{name} was accepted')
    stage.set_all(**_USUAL)


def change_subscribers(stage: Stage, rng: random.Random) -> None:
    """Nobody listens, then somebody to some or all outputs."""
    if rng.random() < 0.5:
        stage.listen([])
        for camera in stage.cameras:
            _wait_for_listeners(stage, camera, is_wanted=False)
    topics = [topic for camera in stage.cameras for topic in camera.output_topics()]
    for _ in range(rng.randint(1, 3)):
        stage.listen(rng.sample(topics, rng.randint(1, len(topics))))
        time.sleep(rng.uniform(0.2, 1.5))


def disable(stage: Stage, rng: random.Random) -> None:
    """``~/enable`` off and on."""
    stage.ask('enable', is_enabled=False)
    time.sleep(rng.uniform(0.1, 1.0))
    stage.ask('enable', is_enabled=True)


def ask_for_a_frame(stage: Stage, rng: random.Random) -> None:
    """``~/segment``, enabled or not."""
    stage.ask('enable', is_enabled=rng.random() < 0.5)
    answer = stage.ask('segment')
    if not answer['success']:
        stage.ledger.problem(f'~/segment failed: {answer["message"]}')


def deactivate(stage: Stage, rng: random.Random) -> None:
    """Deactivated and activated again while images arrive."""
    for _ in range(rng.randint(1, 4)):
        stage.transition('deactivate')
        time.sleep(rng.uniform(0.0, 0.5))
        stage.transition('activate')
        time.sleep(rng.uniform(0.0, 0.5))


def reload(stage: Stage, rng: random.Random) -> None:
    """The whole life cycle, with another model for a while."""
    stage.transition('deactivate', 'cleanup')
    stage.set_all(**rng.choice(stage.models[1:]))
    stage.transition('configure', 'activate')
    stage.until_labels()
    stage.transition('deactivate', 'cleanup')
    stage.set_all(**stage.models[0])
    stage.transition('configure', 'activate')


def swap(stage: Stage, rng: random.Random) -> None:
    """Another model takes over while images arrive, and gives way again."""
    for model in (stage.models[-1], stage.models[0]):
        swapped = {name: value for name, value in model.items() if name != 'trust_model_code'}
        refusal = stage.ask('set_together', values=swapped)
        if refusal:
            stage.ledger.problem(f'a swap was refused: {refusal}')
            return
        stage.until(lambda: 'took over' in _swap_state(stage), 'the other model', START_S)
        stage.until_labels()
        time.sleep(rng.uniform(0.0, 1.0))


def swap_to_damaged(stage: Stage, _rng: random.Random) -> None:
    """A model whose weights are damaged: the one that runs goes on, and the node says why."""
    stage.ask('set_together', values={'model': stage.damaged_model})
    stage.until(lambda: 'failed' in _swap_state(stage), 'the end of the swap', START_S)
    message = stage.status('device')['message']
    stage.ledger.fault('damaged model', 'cannot swap' in message, message)
    stage.until_labels()


def ask_for_no_model(stage: Stage, rng: random.Random) -> None:
    """A model that is not there: configuring fails, says why, and works again afterwards."""
    stage.transition('deactivate', 'cleanup')
    stage.set_all(model='no_such_model')
    is_configured = stage.ask('transition', label='configure')
    message = ''
    if not is_configured:
        seen = stage.status('device')['num']
        stage.until(lambda: stage.status('device')['num'] > seen, 'a further status')
        message = stage.status('device')['message']
    stage.ledger.fault('model that is not there', 'no_such_model' in message, message)
    stage.set_all(**stage.models[0])
    stage.transition('configure', 'activate')


def see_everything_once(stage: Stage) -> None:
    """Every model, with the largest images and all outputs: what memory must hold anyway.

    What a process keeps after that for good is no leak; growth is counted from here on.
    """
    largest = Stream(max(_SIZES_WH), 8.0)
    topics = [topic for camera in stage.cameras for topic in camera.output_topics()]
    for model in (*stage.models[1:], stage.models[0]):
        stage.transition('deactivate', 'cleanup')
        stage.set_all(**model)
        stage.transition('configure', 'activate')
        for encoding in ('rgb8', 'nv12'):
            stage.play(
                {camera.name: replace(largest, encoding=encoding) for camera in stage.cameras}
            )
            stage.listen(topics)
            stage.until_labels()


STEPS: Mapping[str, Step] = MappingProxyType(
    {
        'images change': change_images,
        'burst': burst,
        'garbage': send_garbage,
        'silence': fall_silent,
        'camera leaves': leave_and_return,
        'camera killed': kill_cameras,
        'parameters': change_parameters,
        'subscribers': change_subscribers,
        'disabled': disable,
        'one frame': ask_for_a_frame,
        'deactivated': deactivate,
        'reloaded': reload,
        'no model': ask_for_no_model,
        'swapped': swap,
        'damaged model': swap_to_damaged,
    }
)
"""The steps by name."""


def plan(seed: int) -> Iterator[tuple[str, random.Random]]:
    """Steps for ever, each with its own source of chance; the same for the same seed.

    Every step has its turn, in another order each time.
    """
    order = random.Random(seed)
    index = 0
    while True:
        names = list(STEPS)
        order.shuffle(names)
        for name in names:
            yield name, random.Random(f'{seed} {index}')
            index += 1


def _swap_state(stage: Stage) -> str:
    return str(stage.status('device')['values'].get('swap', ''))


def _send_bad(stage: Stage, camera: SoakCameraName, kind: str) -> None:
    """Sends one bad message and looks what it was counted as."""
    reason = bad_messages(is_compressed=camera.is_compressed)[kind].reason.value
    for _ in range(_SENDING_TRIES):
        before = stage.account(camera.name)
        stage.ask_camera(
            'send_bad', topic=camera.topic, is_compressed=camera.is_compressed, kind=kind
        )
        after = stage.account(camera.name)
        if after['received'] > before['received']:
            break
        stage.ledger.num_lost_on_the_way += 1
    else:
        stage.ledger.problem(f'{camera.name}: no bad message arrived in {_SENDING_TRIES} tries')
        return
    new = {key: after[key] - before.get(key, 0) for key in after if key.startswith('dropped_')}
    seen = {key: num for key, num in new.items() if num}
    is_reported = seen == {f'dropped_{reason}': 1} and after['published'] == before['published']
    stage.ledger.fault(f'image: {kind}', is_reported, seen)


def _wait_for_listeners(stage: Stage, camera: SoakCameraName, *, is_wanted: bool) -> None:
    """The node listens to cameras whose outputs somebody listens to, and to no others."""

    def is_so() -> bool:
        num = stage.ask_camera('listeners', topic=camera.topic, is_compressed=camera.is_compressed)
        return bool(num) == is_wanted

    stage.until(is_so, f'{camera.name}: {"a" if is_wanted else "no"} subscription of the node')


def _wait_for_level(stage: Stage, camera: SoakCameraName, *, is_well: bool) -> bool:
    """Waits until a camera's status is OK, or is not; whether that came in time."""
    deadline_s = time.monotonic() + _SILENCE_S
    while time.monotonic() < deadline_s:
        stage.node.check()
        if (stage.status(camera.name)['level'] < _WARN) == is_well:
            return True
        time.sleep(0.1)
    return False
