"""Tensors of files: nothing in them runs, and what does not fit is named."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import save_file

from seg_perception.errors import WeightsError
from seg_perception.models import state_dicts
from seg_perception.models.card import WeightsSource


class _Payload:
    """A pickle that runs a shell command when it is loaded."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f'touch {self.witness}',)


class TestLoadStateDict:
    STATE: ClassVar = {'conv.weight': torch.arange(6.0).reshape(2, 3), 'n': torch.tensor(3)}

    @pytest.mark.parametrize('name', ['w.safetensors', 'w.pth', 'w.pt'])
    def test_round_trip(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        if path.suffix == '.safetensors':
            save_file(self.STATE, path)
        else:
            torch.save(self.STATE, path)
        loaded = state_dicts.load_state_dict(path)
        assert loaded.keys() == self.STATE.keys()
        assert all(torch.equal(loaded[key], self.STATE[key]) for key in loaded)

    @pytest.mark.parametrize('wrapper', ['state_dict', 'model_state_dict', 'model'])
    def test_training_checkpoints_are_unwrapped(self, wrapper: str, tmp_path: Path) -> None:
        torch.save({'epoch': 3, wrapper: self.STATE}, tmp_path / 'c.pth')
        assert state_dicts.load_state_dict(tmp_path / 'c.pth').keys() == self.STATE.keys()

    @pytest.mark.parametrize('is_zip', [True, False])
    @pytest.mark.filterwarnings('ignore:Detected pickle protocol:UserWarning')
    def test_damage_anywhere_is_ours(self, is_zip: bool, tmp_path: Path) -> None:
        whole = tmp_path / 'whole.pth'
        torch.save({'a': torch.ones(3)}, whole, _use_new_zipfile_serialization=is_zip)
        content = whole.read_bytes()
        path = tmp_path / 'damaged.pth'
        for position in range(0, len(content), 3):
            path.write_bytes(content[:position] + b'\xff' + content[position + 1 :])
            with contextlib.suppress(WeightsError):
                state_dicts.load_state_dict(path)

    @pytest.mark.parametrize('how', ['torch.save', 'pickle', 'nested'])
    def test_a_pickle_with_code_is_refused_and_does_not_run(
        self, how: str, tmp_path: Path
    ) -> None:
        witness, path = tmp_path / 'witness', tmp_path / 'evil.pth'
        if how == 'pickle':
            path.write_bytes(pickle.dumps(_Payload(witness), protocol=2))
        else:
            evil = _Payload(witness)
            torch.save({'w': evil} if how == 'nested' else evil, path)
        with pytest.raises(WeightsError, match=r'a pickle that calls (posix|os)\.system: refused'):
            state_dicts.load_state_dict(path)
        assert not witness.exists()
        # the payload is a live one: unsafe loading does run it
        if how == 'torch.save':
            torch.load(path, weights_only=False)
            assert witness.exists()

    def test_a_zip_bomb_is_refused_before_it_is_unpacked(self, tmp_path: Path) -> None:
        path = tmp_path / 'bomb.pth'
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('archive/version', '3')
            archive.writestr('archive/data.pkl', bytes(50_000_000))
        assert path.stat().st_size < 100_000
        with pytest.raises(WeightsError, match='compressed entries: refused'):
            state_dicts.load_state_dict(path)
        # the same bytes named again and again in the archive's directory
        torch.save({'w': torch.zeros(10_000)}, path)
        with zipfile.ZipFile(path, 'a') as archive:
            [data] = [e for e in archive.infolist() if e.filename.endswith('/data/0')]
            for i in range(5):
                again = copy.copy(data)
                again.filename = f'{data.filename}{i}'
                archive.filelist.append(again)
            archive.writestr('last', '')
        with pytest.raises(WeightsError, match='B of overlapping entries: refused'):
            state_dicts.load_state_dict(path)

    @pytest.mark.parametrize('name', ['w.safetensors', 'w.pth'])
    @pytest.mark.parametrize('keep', [0, 5, 100, 0.5])
    def test_truncated_files(self, name: str, keep: float, tmp_path: Path) -> None:
        path = tmp_path / name
        if path.suffix == '.safetensors':
            save_file(self.STATE, path)
        else:
            torch.save(self.STATE, path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(keep * len(whole)) if keep == 0.5 else int(keep)])
        with pytest.raises(WeightsError, match=name):
            state_dicts.load_state_dict(path)

    @pytest.mark.parametrize(
        ('content', 'expected'),
        [
            ([1, 2], 'got list'),
            ({}, 'without any'),
            ({'a': 1.5}, "got float at 'a'"),
            ({3: torch.zeros(1)}, 'at 3'),
            (torch.zeros(3), 'got Tensor'),
        ],
    )
    def test_other_content(self, content: object, expected: str, tmp_path: Path) -> None:
        torch.save(content, tmp_path / 'o.pth')
        with pytest.raises(WeightsError, match=expected):
            state_dicts.load_state_dict(tmp_path / 'o.pth')

    def test_missing_file_and_other_formats(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match='found none'):
            state_dicts.load_state_dict(tmp_path / 'w.pth')
        (tmp_path / 'w.onnx').write_bytes(b'x')
        with pytest.raises(WeightsError, match='got onnx'):
            state_dicts.load_state_dict(tmp_path / 'w.onnx', 'onnx')
        with zipfile.ZipFile(tmp_path / 'z.pt', 'w') as archive:
            archive.writestr('a', 'b')
        with pytest.raises(WeightsError, match=r'z\.pt'):
            state_dicts.load_state_dict(tmp_path / 'z.pt')


class TestFit:
    def net(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))

    def test_copies_and_converts(self) -> None:
        torch.manual_seed(0)
        net, other = self.net(), self.net()
        state = {
            k: v.half() if v.is_floating_point() else v for k, v in other.state_dict().items()
        }
        del state['1.num_batches_tracked']
        state_dicts.load_into(net, state)
        assert net[0].weight.dtype == torch.float32
        assert torch.equal(net[0].weight, other[0].weight.half().float())

    @pytest.mark.parametrize(
        ('change', 'expected'),
        [
            ({'0.weight': None}, ['1 missing: 0.weight', 'key_map']),
            ({'head.weight': torch.zeros(1)}, ['1 not in the network: head.weight']),
            ({'0.bias': torch.zeros(5)}, ['0.bias (5,) (expected (4,))']),
            ({f'x{i}': torch.zeros(1) for i in range(5)}, ['x0, x1, x2 and 2 more']),
            ({'0.bias': torch.full((4,), float('nan'))}, ['NaN', '0.bias']),
        ],
    )
    def test_misfits_are_named(self, change: dict[str, Any], expected: list[str]) -> None:
        state = {**self.net().state_dict(), **change}
        with pytest.raises(WeightsError) as caught:
            state_dicts.load_into(
                self.net(), {k: v for k, v in state.items() if v is not None}, 'w.pth'
            )
        assert str(caught.value).startswith('w.pth: ')
        assert all(part in str(caught.value) for part in expected)

    def test_rename(self) -> None:
        state = {k: torch.zeros(1) for k in ('module.a', 'module.net.b', 'aux.c')}
        mapping = WeightsSource(
            'w.pth', key_map={'module.': '', 'module.net.': 'n.'}, drop_prefixes=('aux.',)
        )
        assert list(state_dicts.rename_keys(state, mapping)) == ['a', 'n.b']
        clash = WeightsSource('w.pth', key_map={'module.a': 'x', 'aux.c': 'x'})
        with pytest.raises(WeightsError, match="'x'"):
            state_dicts.rename_keys(state, clash)
