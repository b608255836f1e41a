"""``seg-perception models``: the list, a model in full, downloads, and cards for files without."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import astronaut
from safetensors.torch import load_file, save_file
from small_models import write_model

from seg_perception import Segmenter
from seg_perception.cli.main import main
from seg_perception.models import list_models, load_card, nets, resolve

DEFAULT = 'deeplabv3_mobilenetv2.voc21'
WEIGHTS = Path(__file__).resolve().parents[3] / 'shared/data/weights'
COMMON = ['--licence', 'MIT', '--preprocessing', 'imagenet']


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / 'cache'
    monkeypatch.setenv('SEG_PERCEPTION_CACHE', str(folder))
    return folder


def run(capsys, *arguments):
    """Exit code, output and errors of ``seg-perception models``."""
    code = main(['models', *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_list(capsys):
    for arguments in ([], ['list']):
        code, out, _ = run(capsys, *arguments)
        assert code == 0
        lines = out.splitlines()
        assert [line.split()[0] for line in lines[1 : 1 + len(list_models())]] == list_models()
        [default] = [line for line in lines if '(default)' in line]
        assert default.startswith(DEFAULT)
        assert '  21  ' in default
        assert '4.2 MB' in default
        assert '  here  ' in default
        assert 'Apache-2.0' in default
    for arguments in (['--json'], ['list', '--json']):
        entries = json.loads(run(capsys, *arguments)[1])
        assert [entry['name'] for entry in entries] == list_models()
        [entry] = [e for e in entries if e['is_default']]
        assert (entry['num_classes'], entry['place'], entry['speed']) == (21, 'here', None)


def test_speed_is_measured_once_and_listed(capsys, monkeypatch, tmp_path):
    write_model(tmp_path, 'tiny', ('a', 'b'), 'a')
    monkeypatch.setattr('seg_perception.models.catalog._PACKAGE_CARDS', tmp_path)
    _, out, err = run(capsys, '--measure', '--json')
    [entry] = json.loads(out)
    assert entry['speed']['ms'] > 0
    assert entry['speed']['engine'] == 'onnxruntime'
    assert err.startswith('tiny: ')
    assert json.loads(run(capsys, '--json')[1]) == [entry]
    assert 'ms (onnxruntime, ' in run(capsys, 'tiny')[1]
    write_model(tmp_path, 'tiny', ('a', 'b', 'c'), 'a')  # another model of that name
    assert json.loads(run(capsys, '--json')[1])[0]['speed'] is None


def test_a_card_that_is_wrong_does_not_hide_the_others(capsys, monkeypatch, tmp_path):
    (tmp_path / 'broken.yaml').write_text('name: [')
    monkeypatch.setenv('SEG_PERCEPTION_MODELS', str(tmp_path))
    code, out, _ = run(capsys)
    assert code == 0
    [line] = [line for line in out.splitlines() if line.startswith('broken')]
    assert 'cannot be had: ' in line
    assert DEFAULT in out


def test_show(capsys):
    for arguments in ([DEFAULT], ['show', DEFAULT]):
        code, out, _ = run(capsys, *arguments)
        assert code == 0
        lines = dict(line.split(': ', 1) for line in out.splitlines())
        assert lines['name'] == DEFAULT
        assert (
            'at most 384x384 in the aspect of the image, sides multiples of 16' in lines['input']
        )
        assert 'mean 127.5 127.5 127.5' in lines['input']
        assert lines['classes'].startswith('21: background, aeroplane')
        assert 'eager (native)' in lines['engines']
        assert lines['sha256'] == resolve(DEFAULT).weights.sha256
    about = json.loads(run(capsys, 'show', DEFAULT, '--json')[1])
    assert about['classes']['names'][15] == 'person'
    assert about['engines']['eager'] == 'native'
    asked = json.loads(run(capsys, 'show', 'mobile_sam', '--json')[1])
    assert asked['engines'].keys() == {'eager', 'cuda_graph', 'compile', 'aot'}
    assert about['weights_size_bytes'] == Path(about['weights_here']).stat().st_size
    code, _, err = run(capsys, 'show', 'deeplab')
    assert (code, 'did you mean' in err) == (1, True)


def test_pull(capsys, monkeypatch, tmp_path, cache):
    code, out, _ = run(capsys, 'pull', DEFAULT)
    assert code == 0
    assert Path(out.split(': ', 1)[1].strip()).is_file()
    card = write_model(
        tmp_path,
        'remote',
        ('a', 'b'),
        'a',
        weights={'uri': 'https://localhost:9/w.onnx', 'sha256': 'ab' * 32},
    )
    code, _, err = run(capsys, 'pull', card)
    assert code == 1
    assert 'https://localhost:9/w.onnx: download failed' in err
    assert f'put the file at {cache}' in err
    assert not list(cache.glob('*'))


def import_args(path, *more):
    return ['import', path, *COMMON, *more]


def test_a_state_dict_is_recognised_and_runs(capsys, tmp_path):
    torch.manual_seed(0)
    network = nets.build('unet', 3, base_channels=8, num_stages=2)
    state = {f'module.{k}': v for k, v in network.state_dict().items()}
    torch.save({'state_dict': {**state, 'criterion.weight': torch.ones(3)}}, tmp_path / 'w.pth')
    code, out, err = run(
        capsys,
        *import_args(tmp_path / 'w.pth', '--classes', 'floor, wall, door', '--size', 64, 48),
    )
    assert code == 0, err
    assert out == f'card: {tmp_path / "w.yaml"}\n'
    assert 'tensors of unet, base_channels 8, num_stages 2' in err
    card = load_card(tmp_path / 'w.yaml')
    assert (card.weights.uri, card.architecture, card.licence) == ('w.pth', 'unet', 'MIT')
    assert card.input.size_hw == (48, 64)
    assert card.input.mean_rgb == (123.675, 116.28, 103.53)
    # The file is a model now; its logits are those of the network.
    save_file(network.state_dict(), tmp_path / 'same.safetensors')
    (tmp_path / 'classes.txt').write_text('floor\nwall\ndoor\n')
    code, _, err = run(
        capsys,
        *import_args(tmp_path / 'same.safetensors', '--size', 64, 48),
        *('--classes', tmp_path / 'classes.txt', '-o', tmp_path / 'cards.yaml'),
    )
    assert code == 0, err
    with Segmenter(tmp_path / 'w.pth') as one, Segmenter(tmp_path / 'cards.yaml') as other:
        [a], [b] = one.segment([astronaut()]), other.segment([astronaut()])
    np.testing.assert_array_equal(a.labels_YX, b.labels_YX)
    assert one.classes.names == ('floor', 'wall', 'door')


def test_what_is_missing_is_said_at_once_and_nothing_is_written(capsys, tmp_path):
    save_file(nets.build('unet', 3, base_channels=4).state_dict(), tmp_path / 'w.safetensors')
    code, _, err = run(capsys, 'import', tmp_path / 'w.safetensors')
    assert code == 1
    [line] = [line for line in err.splitlines() if line.startswith('error: ')]
    for flag in ('--classes', '--preprocessing', '--mean R G B --std', '--size', '--licence'):
        assert flag in line
    assert '--kind' not in line  # a network of ours: logits
    for wrong, text in (
        (['--classes', 'a,b', '--size', '32', '32'], '--classes: expected 3 names'),
        (['--classes', 'numbered', '--size', '32', '32', '--mean', '0', '0', '0'], ''),
    ):
        code, _, err = run(capsys, *import_args(tmp_path / 'w.safetensors', *wrong))
        assert code == (1 if text else 0)
        assert text in err
        if text:
            assert not list(tmp_path.glob('*.yaml'))
    code, _, err = run(
        capsys, *import_args(tmp_path / 'w.safetensors', '--classes', 'numbered', '--size', 9, 9)
    )
    assert code == 1
    assert 'is there already' in err


@pytest.mark.parametrize('kind', ['logits', 'labels'])
def test_an_onnx_file_says_most_itself(capsys, tmp_path, kind):
    made = write_model(tmp_path, 'm', ('a', 'b', 'c'), 'b', kind=kind)
    made.unlink()
    more = ['--classes', 'a,b,c'] if kind == 'labels' else ['--classes', 'numbered']
    code, _, err = run(capsys, *import_args(tmp_path / 'm.onnx', *more))
    assert code == 0, err
    card = resolve(tmp_path / 'm.onnx')
    assert (card.output.kind, card.input.size_hw, len(card.classes)) == (kind, (32, 32), 3)
    with Segmenter(card) as segmenter:
        [result] = segmenter.segment([astronaut()])
    assert set(np.unique(result.labels_YX)) == {1}


def test_a_model_that_does_not_run_gets_no_card(capsys, tmp_path):
    write_model(tmp_path, 'm', ('a', 'b'), 'b', fails='always').unlink()
    code, _, err = run(capsys, *import_args(tmp_path / 'm.onnx', '--classes', 'a,b'))
    assert code == 1
    assert 'expected numbers, got NaN' in err
    assert not (tmp_path / 'm.yaml').exists()


def test_a_quantised_tflite_file_needs_only_names(capsys, tmp_path):
    pytest.importorskip('ai_edge_litert', reason="LiteRT (extra 'tflite') is not installed")
    source = WEIGHTS / 'ade20k31/deeplabv3_mnv2_ade20k_uint8.tflite'
    if not source.is_file():
        pytest.skip(f'needs {source.name} of shared/data beside the checkout')
    path = tmp_path / 'ade.tflite'
    path.write_bytes(source.read_bytes() + b'\0')  # not the file that the catalog knows
    names = source.parent / 'classes.txt'
    code, _, err = run(capsys, 'import', path, '--classes', names, '--licence', 'Apache-2.0')
    assert code == 0, err
    card, known = resolve(path), resolve('deeplabv3plus_mobilenetv2.ade20k31_uint8')
    assert card.input.size_hw == known.input.size_hw
    assert card.output.kind == known.output.kind
    np.testing.assert_allclose(card.input.mean_rgb, known.input.mean_rgb, atol=1)
    np.testing.assert_allclose(card.input.std_rgb, known.input.std_rgb, rtol=0.01)


def test_files_that_the_catalog_knows(capsys, tmp_path):
    """As they are they need nothing; with other numbers in them their names still tell."""
    source = WEIGHTS / 'ade20k31/deeplabv3plus_mobilenetv2.safetensors'
    if not source.is_file():
        pytest.skip(f'needs {source.name} of shared/data beside the checkout')
    known = resolve('deeplabv3plus_mobilenetv2.ade20k31')
    (tmp_path / 'same.safetensors').write_bytes(source.read_bytes())
    code, _, err = run(capsys, 'import', tmp_path / 'same.safetensors')
    assert code == 0, err
    assert 'is deeplabv3plus_mobilenetv2.ade20k31 of the catalog' in err
    assert resolve(tmp_path / 'same.safetensors').input == known.input
    state = load_file(source)
    state['logits.c.bias'] += 1
    save_file(state, tmp_path / 'tuned.safetensors')
    code, _, err = run(
        capsys,
        *import_args(tmp_path / 'tuned.safetensors', '--size', 64, 64),
        *('--classes', source.parent / 'classes.txt'),
    )
    assert code == 0, err
    card = resolve(tmp_path / 'tuned.safetensors')
    assert card.architecture == known.architecture
    assert card.weights.key_map == known.weights.key_map
    assert card.classes.names == known.classes.names


def test_a_folder_of_transformers_needs_no_answers(capsys, tmp_path):
    hf = pytest.importorskip('transformers', reason="transformers (extra 'hf') is not installed")
    config = hf.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label={0: 'floor', 1: 'wall'},
        label2id={'floor': 0, 'wall': 1},
    )
    hf.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / 'model')
    hf.SegformerImageProcessor().save_pretrained(tmp_path / 'model')
    code, out, err = run(capsys, 'import', tmp_path / 'model')
    assert code == 0, err
    assert out == f'card: {tmp_path / "model" / "card.yaml"}\n'
    with Segmenter(tmp_path / 'model') as segmenter:
        assert segmenter.classes.names == ('floor', 'wall')
        [result] = segmenter.segment([astronaut()])
    assert result.labels_YX.shape == astronaut().shape[:2]


def test_questions_are_asked_at_a_terminal(tmp_path, cache):
    save_file(nets.build('unet', 2, base_channels=4).state_dict(), tmp_path / 'w.safetensors')
    terminal, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, '-m', 'seg_perception.cli.main', 'models', 'import', 'w.safetensors'],
        cwd=tmp_path,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.close(slave)
    for answer in ('floor,wall', 'signed', '64 48', 'MIT'):
        os.write(terminal, f'{answer}\n'.encode())
    out, _ = process.communicate(timeout=120)
    os.close(terminal)
    assert process.returncode == 0, out
    for asked in (
        'names of its 2 classes',
        'scaled to in training',
        'width and height',
        'licence',
    ):
        assert asked in out
    card = load_card(tmp_path / 'w.yaml')
    assert (card.classes.names, card.input.size_hw) == (('floor', 'wall'), (48, 64))
    assert card.input.std_rgb == (127.5, 127.5, 127.5)
