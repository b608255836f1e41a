"""Fuzzes the parsers: ``python -m fuzz`` with ``test`` on PYTHONPATH; ``scripts/fuzz`` sets it up.

Prints one line per target as JSON; ends with 1 where one failed. What a target failed on is
written to ``--failures``: copied to ``test/fuzz/corpus/TARGET`` it is tried by every later run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fuzz.driver import fuzz, fuzz_with_coverage
from fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog='scripts/fuzz', description=__doc__)
    parser.add_argument('targets', nargs='*', metavar='TARGET', help=', '.join(TARGETS))
    parser.add_argument('--runs', type=int, default=20_000, help='inputs in all, shared by cost')
    parser.add_argument('--seed', type=int, default=0, help='the same one, the same inputs')
    parser.add_argument(
        '--coverage', action='store_true', help='let atheris choose inputs that reach new code'
    )
    parser.add_argument('--failures', type=Path, default=Path('out/fuzz'), metavar='FOLDER')
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f'no target {", ".join(sorted(unknown))}: expected {", ".join(TARGETS)}')
    chosen = arguments.targets or list(TARGETS)
    if arguments.coverage:
        return fuzz_with_coverage(chosen, arguments.runs, arguments.seed, arguments.failures)
    total = sum(1 / TARGETS[name].cost for name in chosen)
    num_failed = 0
    for name in chosen:
        num_runs = max(1, round(arguments.runs / TARGETS[name].cost / total))
        outcome = fuzz(name, num_runs, arguments.seed, arguments.failures)
        print(json.dumps(outcome), flush=True)
        num_failed += bool(outcome['failures'])
    return 1 if num_failed else 0


if __name__ == '__main__':
    sys.exit(main())
