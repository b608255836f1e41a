"""The benchmark's processes: measured live, ended in time, and nothing left of them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys

import psutil
import pytest
from ros_harness import wait_until

from seg_perception.ros.bench.processes import Child, ProcessError, Servant, serve
from seg_perception.ros.environment import node_environment

BENCH = [sys.executable, '-m', 'seg_perception.cli.main', 'bench']
SMALL = ['--size', '160x120', '--rounds', '1', '--seconds', '1', '--rate', '20']


def test_a_servant_answers_errors_too():
    asked = [('add', {'a': 1, 'b': 2}), ('fly', {}), ('add', {})]
    requests = [{'do': do, 'turn': i, 'arguments': a} for i, (do, a) in enumerate(asked)]
    answers = io.StringIO()
    serve({'add': lambda a, b: a + b}, io.StringIO('\n'.join(map(json.dumps, requests))), answers)
    first, unknown, wrong = map(json.loads, answers.getvalue().splitlines())
    assert first == {'turn': 0, 'answer': 3}
    assert unknown == {'turn': 1, 'error': "KeyError: 'fly'"}
    assert wrong['error'].startswith('TypeError: ')


def test_the_kernel_ends_a_child_whose_time_is_over(tmp_path):
    child = Child(
        'idle sink',
        'bench.sink',
        {},
        env=node_environment(os.environ),
        log_path=tmp_path / 'log',
        lifetime_s=1.0,
        has_pipes=True,
    )
    with child:
        assert child.popen.wait(10.0) == -signal.SIGALRM
        with pytest.raises(ProcessError, match='idle sink ended with -14; its log:'):
            child.check()


STARTER = """
import os, sys
from pathlib import Path
from seg_perception.ros.bench.processes import Child

child = Child(
    'source', 'image_source', {}, env=os.environ, log_path=Path('log'), lifetime_s=60.0
)
print(child.popen.pid, flush=True)
os._exit(0)
"""


def test_a_child_ends_with_the_one_who_started_it(tmp_path):
    starter = subprocess.run(
        [sys.executable, '-c', STARTER],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env={**node_environment(os.environ), 'PYTHONPATH': os.pathsep.join(sys.path)},
        timeout=30.0,
    )
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(starter.stdout)).wait(10.0)


def test_a_servant_says_what_it_could_not_do(tmp_path):
    with Servant(
        'sink',
        'bench.sink',
        env=node_environment(os.environ),
        log_path=tmp_path / 'log',
        lifetime_s=60.0,
    ) as sink:
        assert sink.ask('counts') == {}
        assert sink.cpu_s() > 0.0
        rss_bytes = sink.rss_bytes()
        assert sink.peak_rss_bytes() >= rss_bytes > 2**20
        with pytest.raises(ProcessError, match=r"sink could not 'fly': KeyError"):
            sink.ask('fly')
        sink.popen.stdin.close()
        assert sink.popen.wait(10.0) == 0
        with pytest.raises(ProcessError, match='sink ended with 0; its log:'):
            sink.check()


@pytest.mark.slow
def test_node_and_plain_node_are_measured_over_live_topics(spawn, tmp_path):
    pytest.importorskip('matplotlib', reason="matplotlib (extra 'bench') is not installed")
    bench = spawn.command([*BENCH, *SMALL, '--out', 'out'], name='bench', ttl_s=150.0)
    assert bench.wait(timeout_s=140.0) == 0
    [case] = json.loads((tmp_path / 'out' / 'report.json').read_text())['cases']
    assert case['parity']['node'] < 1e-3
    assert case['parity']['segmenter'] < 1e-3
    assert case['parity']['plain'] > 0.97
    for mode in ('node', 'plain'):
        figures = case['modes'][mode]
        assert figures['frames'] >= 1
        assert 0.0 < figures['latency_ms']['p50'] < 5000.0
        assert 0.0 < figures['cpu_ms_per_frame'] < 500.0
        assert figures['rss_mib']['peak'] >= figures['rss_mib']['steady'] > 10.0
        assert figures['cpu_s_by_process'].keys() == {'node', 'camera', 'sink'}
    threads_ms = case['modes']['node']['cpu_ms_per_frame_by_thread']
    assert threads_ms.keys() == {'executor', 'middleware', 'workers'}
    # Counted in ticks of 10 ms each, some per thread.
    total_ms, frames = (case['modes']['node'][key] for key in ('cpu_ms_per_frame', 'frames'))
    assert sum(threads_ms.values()) == pytest.approx(total_ms, abs=max(10.0, 100.0 / frames))
    stages = case['modes']['node']['stages_ms']
    assert {'latency_p50', 'stage_infer_p50', 'stage_infer_p99'} <= stages.keys()
    assert '| plain node |' in bench.log
    assert (tmp_path / 'out' / 'report.png').stat().st_size > 1000


@pytest.mark.long
def test_precisions_are_compared_over_live_topics(spawn, tmp_path):
    model = 'deeplabv3_mobilenetv2.voc21'
    live = ['--live', model, f'{model},engine=eager,precision=bf16', '--size', '160x120']
    turns = ['--rounds', '1', '--seconds', '2', '--json']
    command = shlex.join([*BENCH, *live, *turns])
    bench = spawn.command(['bash', '-c', f'exec {command} >live.json'], name='bench', ttl_s=170.0)
    assert bench.wait(timeout_s=160.0) == 0
    native, rounded = json.loads((tmp_path / 'live.json').read_text())
    assert native['title'] == f'{model} native'
    assert native['speed'] == 1.0
    assert rounded['title'] == f'{model} eager bf16'
    assert rounded['speed'] == native['latency_ms']['p50'] / rounded['latency_ms']['p50']
    assert min(native['frames'], rounded['frames']) >= 1


def test_ctrl_c_leaves_no_process(spawn, tmp_path):
    bench = spawn.command([*BENCH, *SMALL, '--seconds', '600'], name='bench', expect_exit=130)
    bench.wait_for_log('[1/1', timeout_s=60.0)
    wait_until(lambda: len(processes_in(tmp_path)) >= 3, 30.0, 'camera and sink')
    assert bench.stop(signal.SIGINT, timeout_s=30.0) == 130
    wait_until(lambda: not processes_in(tmp_path), 5.0, 'the end of all that was started')
    assert 'Traceback' not in bench.log


def processes_in(folder):
    """The processes that were started in a folder, by whomever."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(folder):
                found.append(process)
    return found
