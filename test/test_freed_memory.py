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
        blocks = [bytearray(3_000_000) for _ in range(4)]
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


def num_faults(keep, env=None):
    """Page faults of allocating images again and again, and after the memory was returned."""
    result = subprocess.run(
        [sys.executable, '-c', COUNT_FAULTS.format(keep='keep_freed_memory()' if keep else '')],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60.0,
    )
    return [int(line) for line in result.stdout.split()]


@pytest.mark.skipif(sys.platform != 'linux', reason='counts what glibc does')
def test_freed_memory_is_used_again_until_it_is_returned():
    [again, after_return] = num_faults(keep=True)
    assert again < 500  # of the 2900 pages of four images, 20 times
    assert after_return > 2000
    assert num_faults(keep=False)[0] > 2000
