"""An exported program checks its input once per shape, and gives the same without the checks."""

from __future__ import annotations

import pytest
import torch

from seg_perception.backends.graph_network import GraphNetwork, checked_once


def _exported() -> torch.nn.Module:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU())
    rows, columns = torch.export.Dim('rows', min=8, max=64), torch.export.Dim('columns', min=8)
    shapes = ({2: rows, 3: columns},)
    batch_B3HW = torch.zeros(1, 3, 16, 16)
    return torch.export.export(network, (batch_B3HW,), dynamic_shapes=shapes).module()


def test_what_was_checked_is_not_checked_again():
    program = _exported()
    call = checked_once(GraphNetwork(program, torch.float32))
    batch_B3HW = torch.rand(1, 3, 24, 32)
    expected = program(batch_B3HW)
    torch.testing.assert_close(call(batch_B3HW), expected, rtol=0, atol=0)

    calls = []
    for module in program.modules():
        module.register_forward_pre_hook(lambda module, _: calls.append(type(module).__name__))
    torch.testing.assert_close(call(batch_B3HW), expected, rtol=0, atol=0)
    assert calls == []
    call(torch.rand(1, 3, 32, 24))
    assert calls != []


def test_a_shape_that_cannot_be_is_refused_every_time():
    call = checked_once(GraphNetwork(_exported(), torch.float32))
    for _ in range(2):
        with pytest.raises(Exception, match='64'):
            call(torch.rand(1, 3, 65, 32))
