"""A fixed number of inputs for every parser; ``scripts/fuzz`` tries more."""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.mutation import mutate
from fuzz.targets import TARGETS

from seg_perception.errors import SegPerceptionError

NUM_RUNS = 20_000
# pycocotools 2.0.11 on NumPy 2; silent outside of tests.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
REQUIRED = ('onnx', 'onnxruntime', 'ai_edge_litert', 'pycocotools', 'rosbags')


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory):
    for library in REQUIRED:
        pytest.importorskip(library, reason=f'{library} is not installed')
    folder = tmp_path_factory.mktemp('failures')
    result = subprocess.run(
        [sys.executable, '-m', 'fuzz', '--runs', str(NUM_RUNS), '--failures', str(folder)],
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert result.returncode in (0, 1), result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith('{')]
    return {outcome['target']: outcome for outcome in map(json.loads, lines)}


@pytest.mark.parametrize('name', TARGETS)
def test_nothing_but_our_errors(outcomes, name):
    outcome = outcomes[name]
    assert outcome['failures'] == []
    assert outcome['runs'] == outcome['accepted'] + outcome['refused'] > 30
    # Fuzzing that reaches only the first check of a parser would pass for no reason.
    assert outcome['accepted'] > 0
    assert outcome['refused'] > 0


@pytest.mark.parametrize('name', TARGETS)
def test_seeds_are_valid(name):
    refused = []
    for number, data in enumerate(TARGETS[name].seeds()):
        try:
            TARGETS[name].run(data)
        except SegPerceptionError as error:
            refused.append(f'{number}: {error}')
    if name == 'parameters':  # most of them must not change while a model is loaded
        assert all('takes effect when the node is configured' in line for line in refused)
    else:
        assert refused == []


def test_failures_are_found_and_kept(tmp_path, monkeypatch):
    from fuzz import driver, targets

    def fail(data: bytes) -> None:
        if len(data) == 3:
            raise ZeroDivisionError('three bytes')
        if len(data) == 4 and data[0] > 0x80:
            faulthandler.disable()  # its word on what is meant would go past pytest
            os.kill(os.getpid(), 11)
        if len(data) == 5 and data[0] > 0x80:
            while True:
                pass

    target = targets.Target(fail, lambda: [b'12'])
    monkeypatch.setitem(TARGETS, 'failing', target)
    monkeypatch.setattr(driver, '_HANG_CPU_S', 0.2)
    outcome = driver.fuzz('failing', 400, 0, tmp_path)
    kinds = {failure['failure'].splitlines()[0] for failure in outcome['failures']}
    assert kinds == {'three bytes', 'died: SIGSEGV', 'more than 0.2 s of CPU time'}
    lengths = {len(Path(failure['path']).read_bytes()) for failure in outcome['failures']}
    assert lengths == {3, 4, 5}


def test_the_same_seed_gives_the_same_inputs():
    import random

    pool = [b'{"a": 1}', b'0123456789']
    first, second = (
        [mutate(random.Random(f'x {i}'), pool, (b'null',)) for i in range(200)] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 100
