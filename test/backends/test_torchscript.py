"""TorchScript files: told apart from checkpoints, trusted or refused, and run as they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from seg_perception.backends import RunOptions, load_backend
from seg_perception.errors import DeviceError, ModelCardError, WeightsError
from seg_perception.models import ModelCard, resolve
from seg_perception.models.state_dicts import load_state_dict

MakeCard = Callable[..., ModelCard]
TRUSTED = RunOptions(device='cpu', trust_model_code=True, num_threads=1)
EXAMPLE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def scripted(network: torch.nn.Module, tmp_path: Path) -> Callable[[str], Path]:
    """Writes the small network as TorchScript."""

    def write(name: str) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)
            torch.jit.script(network).save(tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize('name', ['small.torchscript', 'small.pt'])
def test_runs_as_the_network_it_was_made_of(
    name: str, scripted: Callable[[str], Path], network: torch.nn.Module
) -> None:
    path = scripted(name)
    with pytest.raises(ModelCardError, match='expected a model card') as caught:
        resolve(path)
    template = yaml.safe_load(str(caught.value).partition('\n\n')[2])
    template.update(summary='s', licence='MIT', source='here', output={'kind': 'logits'})
    template['input'].update(size_hw=[64, 96], mean_rgb=[0, 0, 0], std_rgb=[255, 255, 255])
    template['classes'] = {'names': ['a', 'b', 'c', 'd', 'e']}
    path.with_suffix('.yaml').write_text(yaml.safe_dump(template))
    card = resolve(path)
    assert (card.weights.format, card.architecture) == ('torchscript', None)
    backend = load_backend(card, options=TRUSTED)
    with torch.inference_mode():
        for batch in (EXAMPLE, torch.rand(2, 3, 32, 48)):
            logits_BCHW = backend.infer(batch).logits_BCHW
            assert logits_BCHW is not None
            torch.testing.assert_close(logits_BCHW, network(batch))
    with pytest.raises(DeviceError, match='precision'):
        load_backend(
            card, options=RunOptions(device='cpu', precision='bf16', trust_model_code=True)
        )


def test_is_refused_unless_trusted(scripted: Callable[[str], Path], make_card: MakeCard) -> None:
    card = make_card(str(scripted('small.torchscript')))
    with pytest.raises(WeightsError, match='trust_model_code=true'):
        load_backend(card, options=RunOptions(device='cpu'))


def test_is_no_checkpoint(scripted: Callable[[str], Path]) -> None:
    with pytest.raises(WeightsError, match=r'weights\.format: torchscript'):
        load_state_dict(scripted('small.pt'))


def test_a_truncated_file(scripted: Callable[[str], Path], make_card: MakeCard) -> None:
    path = scripted('small.torchscript')
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WeightsError, match='not a TorchScript file'):
        load_backend(make_card(str(path)), options=TRUSTED)
