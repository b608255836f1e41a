"""One target under libFuzzer, which keeps inputs that reach new code: ``python -m fuzz.coverage``.

The package's own modules are instrumented, and the parsers below it that are written in Python.
"""

from __future__ import annotations

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=['seg_perception', 'yaml', 'json', 'rosbags', 'pickle']):
    from fuzz.targets import TARGETS

from seg_perception.errors import SegPerceptionError


def main() -> None:
    target = TARGETS[sys.argv.pop(1)]

    def try_one(data: bytes) -> None:
        with contextlib.suppress(SegPerceptionError):
            target.run(data)

    def change(data: bytes, max_size: int, _seed: int) -> bytes:
        changed = atheris.Mutate(data, max_size)
        return changed if target.mend is None else target.mend(changed)[:max_size]

    atheris.Setup(sys.argv, try_one, custom_mutator=change if target.mend else None)
    atheris.Fuzz()


if __name__ == '__main__':
    main()
