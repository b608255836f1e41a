from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from seg_perception.errors import WeightsError
from seg_perception.training.checkpoint import (
    load_checkpoint,
    load_optimizer_state,
    load_random_state,
    optimizer_state,
    random_state,
    save_checkpoint,
)


def test_everything_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / 'c.safetensors'
    groups = {'a': {'x.y/z': torch.tensor([0.1, float('nan')])}, 'b': {}}
    save_checkpoint(path, groups, {'lr': 0.1 + 0.2, 'list': [1, None]})
    loaded, state = load_checkpoint(path)
    assert state == {'lr': 0.1 + 0.2, 'list': [1, None]}
    assert loaded['b'] == {}
    assert loaded['a']['x.y/z'].view(torch.int32).tolist() == (
        groups['a']['x.y/z'].view(torch.int32).tolist()
    )


@pytest.mark.parametrize(
    'make',
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.AdamW(p, lr=0.1),
    ],
    ids=['sgd', 'adamw'],
)
def test_an_optimizer_goes_on_as_if_nothing_had_been(make, tmp_path):
    def step(layer, optimizer):
        optimizer.zero_grad()
        layer(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()

    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    optimizer = make(layer.parameters())
    step(layer, optimizer)
    tensors, plain = optimizer_state(optimizer)
    save_checkpoint(
        tmp_path / 'c', {'net': layer.state_dict(), 'opt': tensors}, {'optimizer': plain}
    )
    other = torch.nn.Linear(3, 2)
    other_optimizer = make(other.parameters())
    groups, state = load_checkpoint(tmp_path / 'c')
    other.load_state_dict(groups['net'])
    load_optimizer_state(other_optimizer, groups['opt'], state['optimizer'])
    for _ in range(3):
        step(layer, optimizer)
        step(other, other_optimizer)
    assert torch.equal(layer.weight, other.weight)


def test_random_numbers_go_on():
    state = random_state()
    first = torch.rand(3)
    load_random_state(state)
    assert torch.equal(first, torch.rand(3))


def test_what_is_no_checkpoint_is_told(tmp_path):
    path = tmp_path / 'c.safetensors'
    with pytest.raises(WeightsError, match='found none'):
        load_checkpoint(path)
    save_file({'a': torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match='another safetensors file'):
        load_checkpoint(path)
    save_checkpoint(path, {'a': {'x': torch.zeros(100)}}, {})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(WeightsError, match='not a whole checkpoint'):
        load_checkpoint(path)
