"""Changes inputs at random, the same way for the same seed."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Sequence

_INTERESTING = (0, 1, -1, 7, 16, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 65536, 2**20)
_INTERESTING += (2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63))
_NUMBERS = (b'0', b'-1', b'1', b'0.5', b'255', b'65536', b'1048577', b'4294967296', b'1e308')
_NUMBERS += (b'9' * 25, b'9' * 400, b'-0.0', b'null', b'[]', b'{}', b'""', b'true', b'1e-400')
_NUMBER = re.compile(rb'-?\d+(\.\d+)?')
MAX_BYTES = 16384


def mutate(rng: random.Random, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """One to six changes of one of the pool's inputs."""
    data = bytearray(rng.choice(pool))
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        _change(rng, data, pool, tokens)
    return bytes(data[:MAX_BYTES])


def _change(
    rng: random.Random, data: bytearray, pool: Sequence[bytes], tokens: Sequence[bytes]
) -> None:
    kind = rng.randrange(9)
    at = rng.randrange(len(data) + 1)
    length = min(rng.choice((1, 1, 2, 4, 8, 64, 512)), len(data) - at)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = rng.randrange(256)
    elif kind == 2:
        size, code = rng.choice(((1, 'b'), (2, 'h'), (4, 'i'), (8, 'q')))
        value = rng.choice(_INTERESTING) & (2 ** (8 * size) - 1)
        data[at : at + size] = struct.pack(rng.choice('<>') + code.upper(), value)
    elif kind == 3:
        del data[at : at + length]
    elif kind == 4:
        data[at:at] = data[at : at + length] * rng.choice((1, 2, 30))
    elif kind == 5:
        data[at:at] = rng.choice(tokens) if tokens else rng.randbytes(length)
    elif kind == 6:
        other = rng.choice(pool)
        start = rng.randrange(len(other) + 1)
        data[at : at + length] = other[start : start + rng.choice((4, 16, 64, 512))]
    elif kind == 7:
        del data[at:]
    elif matches := list(_NUMBER.finditer(bytes(data[:4096]))):
        match = rng.choice(matches)
        data[slice(*match.span())] = rng.choice(_NUMBERS)
