"""Errors of libraries that are missing: each names an extra that there is, and that has it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.metadata import metadata, requires
from importlib.util import find_spec
from pathlib import Path

import pytest

from seg_perception.errors import (
    MissingExtraError,
    MissingLibraryError,
    SegPerceptionError,
)

ROOT = Path(find_spec('seg_perception').origin).parent
EXTRAS = {
    extra: {
        re.match(r'[\w.-]+', text)[0].lower().replace('_', '-')
        for text in requires('seg_perception')
        if re.search(rf'extra == .{extra}\W', text)
    }
    for extra in metadata('seg_perception').get_all('Provides-Extra')
}


def uses() -> Iterator[tuple[str, str, str | None, str | None]]:
    """Place, library and extra of everything that raises the error; None where no constant."""
    for path in sorted(ROOT.rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if not isinstance(node, ast.Call):
                continue
            arguments = list(node.args)
            called = ast.unparse(node.func)
            if called == 'partial' and arguments:
                called = ast.unparse(arguments.pop(0))
            if called == 'require_library' and arguments:
                arguments.pop(0)  # the module's name; the library's comes next
            elif called != 'MissingExtraError':
                continue
            values = [a.value if isinstance(a, ast.Constant) else None for a in arguments[:2]]
            yield f'{path.relative_to(ROOT)}:{node.lineno}', *values


USES = list(uses())


def test_there_are_uses():
    assert len([use for use in USES if use[1]]) > 15
    assert {'onnx', 'openvino', 'tflite', 'train', 'demo', 'bench', 'hf'} <= {u[2] for u in USES}


@pytest.mark.parametrize(('place', 'library', 'extra'), USES, ids=[use[0] for use in USES])
def test_the_extra_exists_and_installs_the_library(place, library, extra):
    if extra is None:
        assert library is None, f'{place}: which extra?'
        return  # handed on from a caller, which is looked at, too
    assert extra in EXTRAS
    if library is not None:
        assert library in EXTRAS[extra], f'{place}: the library is named as on PyPI'


def test_messages_say_what_to_type():
    error = MissingExtraError('scikit-image', 'demo', 'play photographs')
    assert isinstance(error, SegPerceptionError)
    assert isinstance(error, ImportError)
    assert str(error) == (
        'scikit-image is needed to play photographs and is not installed: '
        "pip install 'seg_perception[demo]'"
    )
    assert (error.library, error.extra) == ('scikit-image', 'demo')
    newer = MissingLibraryError('a newer x than 1', 'run y', 'pip install --upgrade x')
    assert str(newer).endswith('is needed to run y and is not installed: pip install --upgrade x')
