"""The memory of one image is there for the next one."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, threading
from seg_perception.freed_memory import keep_freed_memory, return_freed_memory
{keep}
def allocate():
    for _ in range(20):
        blocks = [b'x' * {size} for _ in range(4)]
        del blocks
def num_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for target in (allocate, allocate):
    before = num_faults()
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
print(num_faults() - before)
before = num_faults()
return_freed_memory()
allocate()
print(num_faults() - before)
"""


def num_faults(size, *, keep):
    """Page faults of allocating images again and again, and after the memory was returned."""
    result = subprocess.run(
        [
            sys.executable,
            '-c',
            COUNT_FAULTS.format(size=size, keep='keep_freed_memory()' if keep else ''),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60.0,
    )
    return [int(line) for line in result.stdout.split()]


@pytest.mark.skipif(sys.platform != 'linux', reason='counts what glibc does')
@pytest.mark.parametrize('size', [3_000_000, 48_000_000])
def test_freed_memory_is_used_again_until_it_is_returned(size):
    num_pages = 4 * size // 4096
    [again, after_return] = num_faults(size, keep=True)
    assert again < 0.2 * num_pages  # of 20 times
    assert after_return > 0.7 * num_pages
    assert num_faults(size, keep=False)[0] > 0.7 * num_pages
