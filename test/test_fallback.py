"""A local model stands in while a real Triton server does not answer, and never silently."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from photographs import astronaut
from small_models import write_model
from triton_server import TritonServer, needs_triton, wait_no_longer, write_served

from seg_perception import fallback
from seg_perception.errors import ConfigurationError, ModelNotFoundError, ServerError
from seg_perception.fallback import SegmenterWithFallback, check_fallback
from seg_perception.models import ModelCard, resolve
from seg_perception.models.output_spec import OutputSpec
from seg_perception.pipeline import Segmenter
from seg_perception.recovery import ResilientSegmenter
from seg_perception.structures import Segmentation

pytest.importorskip('tritonclient.grpc', reason='tritonclient (extra triton) is not installed')

LONG_S = 40.0
CLASSES = ('background', 'floor', 'chair')
OF_SMALL = {'"logits"': '"scores"'}
IMAGE = astronaut()


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``far`` finds floor (1), ``near`` finds chair (2), so that labels tell who made them."""
    folder = tmp_path_factory.mktemp('models')
    far = write_model(folder, 'far', CLASSES, 'floor')
    return {
        'far': write_served(far, folder / 'entry'),
        'near': write_model(folder, 'near', CLASSES, 'chair'),
        'other': write_model(folder, 'other', ('background', 'floor', 'ladder'), 'floor'),
        'labels': write_model(folder, 'labels', CLASSES, 'chair', kind='labels'),
    }


@pytest.fixture
def server(models: dict[str, Path], tmp_path: Path) -> Iterator[TritonServer]:
    """A server with the model ``far``; not started."""
    server = TritonServer(tmp_path / 'triton')
    server.add(models['far'], 'far', OF_SMALL)
    yield server
    server.kill()


@pytest.fixture
def told() -> list[str]:
    """What was reported."""
    return []


@pytest.fixture
def make(
    server: TritonServer, models: dict[str, Path], told: list[str]
) -> Iterator[Callable[..., SegmenterWithFallback]]:
    """Makes what is tested; ``timeout_s`` is for all but the first connection."""
    made: list[SegmenterWithFallback] = []

    def make(near: str = 'near', timeout_s: float = LONG_S) -> SegmenterWithFallback:
        patience_s = LONG_S

        def connect() -> Segmenter:
            nonlocal patience_s
            segmenter = Segmenter(server.address('far'), server_timeout_s=patience_s)
            segmenter.warm_up()
            patience_s = timeout_s
            wait_no_longer(segmenter, timeout_s)
            return segmenter

        local = Segmenter(models[near], num_threads=1)
        made.append(
            SegmenterWithFallback(
                connect, local, report=told.append, tell=told.append, retry_s=0.2
            )
        )
        return made[-1]

    yield make
    for segmenter in made:
        segmenter.close()


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def found(result: Segmentation) -> tuple[int, str]:
    [label] = np.unique(result.labels_YX)
    return int(label), result.model


@needs_triton
@pytest.mark.slow
def test_stands_in_and_gives_way_again(
    server: TritonServer,
    models: dict[str, Path],
    make: Callable[..., SegmenterWithFallback],
    told: list[str],
) -> None:
    far, near = (1, server.address('far')), (2, 'near')
    server.start()
    segmenter = make()
    assert found(segmenter.segment([IMAGE])[0]) == far
    assert segmenter.condition() == {'labels_from': far[1], 'server_losses': '0'}
    assert not segmenter.concern
    segmenter.confidence_threshold = 0.25
    server.kill()
    results = [found(segmenter.segment([IMAGE])[0]) for _ in range(fallback.MAX_FAILURES + 2)]
    assert results == [near] * len(results)  # not one is lost
    assert segmenter.condition()['labels_from'] == 'near'
    assert 'the server does not answer' in segmenter.condition()['server']
    assert segmenter.concern.startswith('labels are from the fallback near: ')
    assert any('labels are from the fallback near now' in line for line in told)
    server.start()
    until(lambda: found(segmenter.segment([IMAGE])[0]) == far)
    assert segmenter.condition() == {'labels_from': far[1], 'server_losses': '1'}
    assert 'answers again after' in told[-1]
    assert segmenter._served is not None
    assert segmenter._served.confidence_threshold == 0.25
    # another model of that name, whose labels mean something else, is not gone back to
    server.kill()
    server.remove('far')
    server.add(models['far'], 'far', {**OF_SMALL, 'chair': 'ladder'})
    server.start()

    def is_refused() -> bool:
        found(segmenter.segment([IMAGE])[0])
        return 'class 2 is chair, not ladder' in segmenter.concern

    until(is_refused)
    assert found(segmenter.segment([IMAGE])[0]) == near


@needs_triton
@pytest.mark.slow
def test_a_slow_server(server: TritonServer, make: Callable[..., SegmenterWithFallback]) -> None:
    server.start()
    segmenter = make(timeout_s=2.0)
    delay = server.models / 'far' / '1' / 'delay_s'
    delay.write_text('5')
    start_s = time.monotonic()
    assert found(segmenter.segment([IMAGE])[0]) == (2, 'near')  # late, but there
    assert time.monotonic() - start_s >= 2.0
    assert segmenter.condition()['labels_from'] == server.address('far')  # one is not enough
    for _ in range(2):
        segmenter.segment([IMAGE])
    assert 'expected an answer within 2 s' in segmenter.concern
    # The server is not waited for any more.
    assert segmenter.condition()['labels_from'] == 'near'
    assert found(segmenter.segment([IMAGE])[0]) == (2, 'near')
    delay.unlink()
    until(lambda: found(segmenter.segment([IMAGE])[0]) == (1, server.address('far')))


@needs_triton
@pytest.mark.slow
def test_a_start_without_the_server(
    server: TritonServer, make: Callable[..., SegmenterWithFallback], models: dict[str, Path]
) -> None:
    segmenter = make()
    assert found(segmenter.segment([IMAGE])[0]) == (2, 'near')
    assert segmenter.card.name == 'near'
    server.start()
    until(lambda: found(segmenter.segment([IMAGE])[0]) == (1, server.address('far')))
    with pytest.raises(ConfigurationError, match='expected the 3 classes of far'):
        make('other')
    server.kill()
    server.remove('far')
    server.add(models['far'], 'farther', OF_SMALL)
    server.start()
    with pytest.raises(ModelNotFoundError, match='it has: farther@1'):  # not a server that is gone
        make()


@needs_triton
@pytest.mark.slow
def test_without_a_fallback_the_model_is_not_given_up(server: TritonServer) -> None:
    """It is not loaded anew, however often the server does not answer: that would mend nothing."""
    server.start()

    def load() -> Segmenter:
        return Segmenter(server.address('far'), server_timeout_s=LONG_S)

    segmenter = ResilientSegmenter(load, max_failures=2)
    segmenter.segment([IMAGE])
    server.kill()
    for _ in range(5):
        with pytest.raises(ServerError):
            segmenter.segment([IMAGE])
    server.start()

    def is_back() -> bool:
        try:
            segmenter.segment([IMAGE])
        except ServerError:
            return False
        return True

    until(is_back)
    assert segmenter.num_reloads == 0
    segmenter.close()


def test_what_cannot_stand_in(models: dict[str, Path]) -> None:
    far, near = resolve(models['far']), resolve(models['near'])
    check_fallback(far, near)

    def refused(fallback_card: ModelCard, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            check_fallback(far, fallback_card)

    refused(resolve(models['other']), 'other has 3; class 2 is ladder, not')
    refused(resolve(models['labels']), 'labels gives labels')
    weights = dataclasses.replace(near.weights, uri='triton://gpu:8001/a', format='')
    refused(dataclasses.replace(near, weights=weights), 'expected a model that runs here')
    refused(dataclasses.replace(near, output=OutputSpec('words')), 'classes of their own')
