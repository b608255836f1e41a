"""A network that cannot be exported is told of on one line that says what runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seg_perception.backends.exporting import export_onnx, export_program
from seg_perception.backends.failures import one_line
from seg_perception.errors import ModelError


class Undecided(torch.nn.Module):
    """Looks at the values of its input to decide what to do, which no graph can."""

    def forward(self, x_B3HW: torch.Tensor) -> torch.Tensor:
        return x_B3HW if bool(x_B3HW.mean() > 0) else -x_B3HW


def as_program(network: torch.nn.Module, folder: Path) -> None:
    export_program(network, torch.zeros(2, 3, 8, 8), 'undecided')


def as_onnx(network: torch.nn.Module, folder: Path) -> None:
    pytest.importorskip('onnxscript', reason='onnxscript (extra onnx) is not installed')
    export_onnx(network, torch.zeros(2, 3, 8, 8), folder / 'model.onnx', 'undecided')


@pytest.mark.parametrize('write', [as_program, as_onnx])
def test_what_torch_cannot_trace(
    write: Callable[[torch.nn.Module, Path], None], tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as raised:
        write(Undecided(), tmp_path)
    message = str(raised.value)
    assert message.startswith('undecided: torch cannot export it: ')
    assert message.endswith("engine 'eager' runs it as it is, 'cuda_graph' does on a GPU")
    assert '\n' not in message
    assert '\x1b' not in message
    assert len(message) < 500


def test_what_is_known_to_fail_is_not_tried(tmp_path: Path) -> None:
    network = Undecided()
    network.not_exportable = 'it cannot make up its mind'
    with pytest.raises(ModelError, match='cannot be exported: it cannot make up its mind; engine'):
        as_program(network, tmp_path)


def test_lines_of_libraries_lose_what_is_for_terminals() -> None:
    error = RuntimeError(
        '\x1b[96m[torch.onnx]\x1b[0m Failed\n  - \x1b]8;;https://x\x07link\x1b]8;;\x07\tto export'
    )
    assert one_line(error) == '[torch.onnx] Failed - link to export'
    assert one_line(error, 12) == '[torch.onnx]'
    assert one_line(ValueError()) == 'ValueError'
