"""Runs targets, each in a process of its own, so that nothing an input does can go unseen.

Bounds of every single input: it may use ``MAX_CPU_S`` of CPU time (which, unlike the clock, does
not depend on what else the machine does), and the process may not grow by more than
``MAX_GROWTH_BYTES``, which the kernel enforces.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from fuzz.mutation import MAX_BYTES, mutate
from fuzz.targets import TARGETS

from seg_perception.errors import SegPerceptionError

MAX_CPU_S = 1.0
MAX_GROWTH_BYTES = 512 * 2**20
_HANG_CPU_S = 5.0
_MAX_DEATHS = 20
_STATE = struct.Struct('<QI')  # inputs begun, length of the present one, which follows


def fuzz(name: str, num_runs: int, seed: int, failures: Path) -> dict[str, Any]:
    """Tries a target's seeds and then so many changed ones.

    Returns:
        For people and JSON: counts, the slowest input, how far the process grew, and failures.
    """
    state = mmap.mmap(-1, _STATE.size + MAX_BYTES * 8)
    start_s, deaths, reports = time.monotonic(), [], []
    first = 0
    while first < num_runs:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _serve(name, range(first, num_runs), seed, state, writer)
        os.close(writer)
        with os.fdopen(reader) as stream:
            lines = stream.read().splitlines()
        _, status = os.waitpid(child, 0)
        reports += [json.loads(line) for line in lines]
        if status == 0:
            break
        begun, length = _STATE.unpack_from(state)
        data = bytes(state[_STATE.size : _STATE.size + length])
        died_of = os.WTERMSIG(status)
        what = f'died: {signal.Signals(died_of).name}' if died_of else f'exit {status >> 8}'
        if died_of == signal.SIGPROF:
            what = f'more than {_HANG_CPU_S:g} s of CPU time'
        deaths.append(_saved(name, data, what, failures))
        first = begun
        if len(deaths) >= _MAX_DEATHS:
            break
    found = [r for r in reports if 'failure' in r]
    ends = [r for r in reports if 'accepted' in r]
    for report in found:
        report['path'] = str(_path(name, bytes.fromhex(report.pop('data')), failures))
    return {
        'target': name,
        'runs': _STATE.unpack_from(state)[0],
        'accepted': sum(r['accepted'] for r in ends),
        'refused': sum(r['refused'] for r in ends),
        'slowest_ms': max((r['slowest_ms'] for r in ends), default=0.0),
        'growth_mib': max((r['growth_mib'] for r in ends), default=0.0),
        'seconds': round(time.monotonic() - start_s, 1),
        'failures': [*deaths, *found],
    }


def fuzz_with_coverage(names: list[str], num_runs: int, seed: int, failures: Path) -> int:
    """The same with libFuzzer choosing the inputs; see ``coverage``. Returns the exit code."""
    failures.mkdir(parents=True, exist_ok=True)
    exit_code = 0
    for name in names:
        corpus = failures / 'coverage' / name
        corpus.mkdir(parents=True, exist_ok=True)
        for data in TARGETS[name].seeds():
            _path(name, data, failures / 'coverage')
        command = [sys.executable, '-m', 'fuzz.coverage', name, str(corpus), f'-seed={seed or 1}']
        command += [f'-runs={num_runs}', f'-max_len={MAX_BYTES}', '-timeout=10', '-verbosity=0']
        command += [f'-artifact_prefix={failures / name}-', '-rss_limit_mb=2048']
        command += ['-print_final_stats=1']
        print(f'== {name}', flush=True)
        exit_code |= subprocess.run(command).returncode != 0
    return int(exit_code)


def _serve(name: str, runs: range, seed: int, state: mmap.mmap, writer: int) -> NoReturn:
    """The child: tries inputs and writes reports; its parent sees it die."""
    exit_code = 1
    stderr = os.fdopen(os.dup(2), 'w')
    # Decoders complain of every damaged image.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        # Line by line: what follows may end the process.
        with os.fdopen(writer, 'w', buffering=1) as stream:
            _try_all(name, runs, seed, state, stream)
        exit_code = 0
    except BaseException:
        traceback.print_exc(file=stderr)
    finally:
        stderr.flush()
        os._exit(exit_code)


def _try_all(name: str, runs: range, seed: int, state: mmap.mmap, stream: Any) -> None:
    target = TARGETS[name]
    pool = target.seeds()
    for data in pool:  # loads libraries, so that what they take is not counted
        _attempt(name, data)
    before = _status_bytes('VmData')
    resource.setrlimit(resource.RLIMIT_DATA, (before + MAX_GROWTH_BYTES,) * 2)
    counts, seen, slowest_s = {True: 0, False: 0}, set(), 0.0
    for run in runs:
        rng = random.Random(f'{name} {seed} {run}')
        data = pool[run] if run < len(pool) else mutate(rng, pool, target.tokens)
        if target.mend is not None and rng.random() < 0.7:
            data = target.mend(data)
        state[: _STATE.size + len(data)] = _STATE.pack(run + 1, len(data)) + data
        start_s = time.process_time()
        is_accepted, failure = _attempt(name, data)
        elapsed_s = time.process_time() - start_s
        if not failure and elapsed_s > MAX_CPU_S:
            failure = f'{elapsed_s:.2f} s of CPU time'
        slowest_s = max(slowest_s, elapsed_s)
        counts[is_accepted] += 1
        where = failure.rpartition('\n')[2] if failure else ''
        if failure and where not in seen:
            seen.add(where)
            stream.write(json.dumps({'failure': failure, 'data': data.hex()}) + '\n')
    end = {
        'accepted': counts[True],
        'refused': counts[False],
        'slowest_ms': round(slowest_s * 1e3, 1),
        'growth_mib': round((_status_bytes('VmData') - before) / 2**20, 1),
    }
    stream.write(json.dumps(end) + '\n')


def _attempt(name: str, data: bytes) -> tuple[bool, str]:
    """Whether the input was accepted, and what was wrong with how it was dealt with."""
    # SIGPROF ends the process where an input does.
    signal.setitimer(signal.ITIMER_PROF, _HANG_CPU_S)
    try:
        TARGETS[name].run(data)
    except SegPerceptionError:
        return False, ''
    except Exception as error:
        return False, '\n'.join(_summary(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return True, ''


def _summary(error: Exception) -> list[str]:
    """Where it was raised and what it is, the last line the same for the same fault."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if 'seg_perception' in f.filename] or frames
    places = [f'{Path(f.filename).name}:{f.lineno}' for f in (ours[-1], frames[-1])]
    return [str(error)[:200], f'{type(error).__name__} at {places[0]} in {places[1]}']


def _saved(name: str, data: bytes, what: str, failures: Path) -> dict[str, str]:
    return {'failure': what, 'path': str(_path(name, data, failures))}


def _path(name: str, data: bytes, failures: Path) -> Path:
    path = failures / name / hashlib.sha256(data).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _status_bytes(field: str) -> int:
    lines = Path('/proc/self/status').read_text(encoding='ascii').splitlines()
    [line] = [line for line in lines if line.startswith(f'{field}:')]
    return int(line.split()[1]) * 1024
