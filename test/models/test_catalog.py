"""The catalog: every shipped card holds, every way of naming a model leads to its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_perception.errors import (
    ModelCardError,
    ModelNotFoundError,
    WeightsError,
)
from seg_perception.models import DEFAULT_MODEL, list_models, nets, resolve
from seg_perception.models.card import load_card
from seg_perception.models.graph_facts import _class_names
from seg_perception.models.weights import fetch_weights

CARD: dict[str, Any] = {
    'name': 'mine',
    'summary': 'for tests',
    'weights': {'uri': 'mine.onnx'},
    'input': {
        'size_hw': [32, 32],
        'resize': 'stretch',
        'mean_rgb': [0, 0, 0],
        'std_rgb': [1, 1, 1],
    },
    'classes': {'names': ['a', 'b']},
    'licence': 'MIT',
    'source': 'here',
}


def write_card(path: Path, **fields: Any) -> Path:
    path.write_text(yaml.safe_dump({**CARD, **fields}))
    return path


class TestShippedCards:
    @pytest.mark.parametrize('name', list_models())
    def test_card_holds(self, name: str) -> None:
        card = resolve(name)
        assert card.name == name
        assert card.summary
        assert card.licence
        if card.architecture is not None:
            assert card.architecture in {*nets.ARCHITECTURES, *nets.PROMPTED}
        if card.weights.is_remote or card.weights.uri.startswith('package://'):
            assert card.weights.sha256 or card.weights.sha256_prefix

    def test_the_default_is_there_with_its_weights(self) -> None:
        assert DEFAULT_MODEL in list_models()
        card = resolve(DEFAULT_MODEL)
        assert fetch_weights(card.weights, card.base_dir).is_file()
        assert card.classes.names[15] == 'person'


class TestResolve:
    def test_unknown_name_suggests_close_ones(self) -> None:
        with pytest.raises(ModelNotFoundError, match='did you mean') as caught:
            resolve('deeplabv3_mobilenet.voc21')
        assert DEFAULT_MODEL in str(caught.value)

    @pytest.mark.parametrize('name', ['no/such.yaml', 'none.onnx', 'some/folder', 'none.yml'])
    def test_missing_files(self, name: str) -> None:
        with pytest.raises(ModelNotFoundError, match='found none at'):
            resolve(name)

    def test_a_file_of_another_kind(self, tmp_path: Path) -> None:
        (tmp_path / 'model.h5').write_text('')
        with pytest.raises(ModelNotFoundError, match=r'expected one of .*\.safetensors'):
            resolve(tmp_path / 'model.h5')

    def test_card_folder_and_card_file(self, tmp_path: Path) -> None:
        path = write_card(tmp_path / 'card.yaml')
        assert resolve(path) == resolve(tmp_path) == load_card(path)
        assert resolve(str(path)).base_dir == tmp_path

    @pytest.mark.parametrize('card_file', ['net.yaml', 'card.yaml'])
    def test_model_file_with_its_card_beside_it(self, card_file: str, tmp_path: Path) -> None:
        (tmp_path / 'net.onnx').write_bytes(b'12')
        write_card(tmp_path / card_file, weights={'uri': 'elsewhere.onnx', 'sha256': 'ab' * 32})
        card = resolve(tmp_path / 'net.onnx')
        assert card.weights.uri == str(tmp_path / 'net.onnx')
        with pytest.raises(WeightsError, match='SHA-256'):
            fetch_weights(card.weights, card.base_dir)

    def test_the_nearer_card_wins_and_must_fit_the_format(self, tmp_path: Path) -> None:
        (tmp_path / 'net.tflite').write_bytes(b'12')
        write_card(tmp_path / 'card.yaml', name='general')
        with pytest.raises(ModelCardError, match=r'expected tflite.*net\.tflite, got onnx'):
            resolve(tmp_path / 'net.tflite')
        write_card(tmp_path / 'net.yaml', name='near', weights={'uri': 'net.tflite'})
        assert resolve(tmp_path / 'net.tflite').name == 'near'

    def test_own_folders_come_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for folder in ('one', 'two'):
            (tmp_path / folder).mkdir()
            write_card(tmp_path / folder / 'mine.yaml', summary=folder)
        monkeypatch.setenv('SEG_PERCEPTION_MODELS', f'{tmp_path}/one:{tmp_path}/two')
        assert {'mine', DEFAULT_MODEL} <= set(list_models())
        assert resolve('mine').summary == 'one'


class TestFilesWithoutCard:
    def test_state_dict_gets_a_template_naming_the_place(self, tmp_path: Path) -> None:
        (tmp_path / 'My Net.safetensors').write_bytes(b'12')
        with pytest.raises(ModelCardError) as caught:
            resolve(tmp_path / 'My Net.safetensors')
        message = str(caught.value)
        assert f'a model card at {tmp_path / "My Net.yaml"}' in message
        template = yaml.safe_load(message.partition('\n\n')[2])
        assert template['name'] == 'my_net'
        assert template['architecture'] == '???'
        assert template['input']['mean_rgb'] == '???'

    @pytest.fixture
    def onnx_file(self, tmp_path: Path) -> Any:
        onnx = pytest.importorskip('onnx', reason='onnx is not installed')
        pytest.importorskip('onnxruntime', reason='onnxruntime (extra onnx) is not installed')
        from onnx import TensorProto, helper

        def make(metadata: dict[str, str], shape: list[Any] | None = None) -> Path:
            dims = shape or [1, 3, 48, 64]
            image = helper.make_tensor_value_info('x', TensorProto.FLOAT, dims)
            scores = helper.make_tensor_value_info('y', TensorProto.FLOAT, dims)
            graph = helper.make_graph(
                [helper.make_node('Relu', ['x'], ['y'])], 'g', [image], [scores]
            )
            model = helper.make_model(
                graph, ir_version=10, opset_imports=[helper.make_opsetid('', 17)]
            )
            helper.set_model_props(model, metadata)
            onnx.save(model, tmp_path / 'net.onnx')
            return tmp_path / 'net.onnx'

        return make

    def test_onnx_template_is_filled_with_what_the_file_says(self, onnx_file: Any) -> None:
        path = onnx_file({'names': "{0: 'road', 1: 'car', 2: 'person'}"})
        with pytest.raises(ModelCardError, match='mean and std of its images') as caught:
            resolve(path)
        template = yaml.safe_load(str(caught.value).partition('\n\n')[2])
        assert template['input']['size_hw'] == [48, 64]
        assert template['classes']['names'] == ['road', 'car', 'person']
        # filled in, it is a card
        template.update(summary='s', licence='MIT', source='here', output={'kind': 'logits'})
        template['input'].update(mean_rgb=[0, 0, 0], std_rgb=[1, 1, 1])
        path.with_suffix('.yaml').write_text(yaml.safe_dump(template))
        assert resolve(path).weights.uri == str(path)

    def test_dynamic_sizes_stay_open(self, onnx_file: Any) -> None:
        with pytest.raises(ModelCardError, match=r'size_hw: \?\?\?') as caught:
            resolve(onnx_file({}, ['b', 3, 'h', 'w']))
        assert '["class_0", "class_1", "class_2"]' in str(caught.value)

    def test_onnx_may_carry_its_card(self, onnx_file: Any) -> None:
        path = onnx_file({'seg_perception_card': yaml.safe_dump(CARD)})
        card = resolve(path)
        assert card.name == 'mine'
        assert card.weights.uri == str(path)
        broken = onnx_file({'seg_perception_card': yaml.safe_dump({**CARD, 'licence': None})})
        with pytest.raises(ModelCardError, match='seg_perception_card: licence'):
            resolve(broken)

    def test_onnx_names_that_are_no_text(self, onnx_file: Any) -> None:
        path = onnx_file({'note': 'q'})
        path.write_bytes(path.read_bytes().replace(b'note', b'n\xffte'))
        with pytest.raises(WeightsError, match='not a valid ONNX model'):
            resolve(path)

    @pytest.mark.parametrize('text', ['name: 2001-99-99', 'name: a\nname: b', '[' * 2000])
    def test_onnx_carried_cards_are_read_as_strictly(self, text: str, onnx_file: Any) -> None:
        with pytest.raises(ModelCardError, match='seg_perception_card: is not valid YAML'):
            resolve(onnx_file({'seg_perception_card': text}))

    @pytest.mark.parametrize('name', ['net.onnx', 'net.tflite'])
    def test_damaged_files(self, name: str, tmp_path: Path) -> None:
        library = {'net.onnx': 'onnxruntime', 'net.tflite': 'ai_edge_litert'}[name]
        pytest.importorskip(library, reason=f'{library} is not installed')
        (tmp_path / name).write_bytes(b'nothing')
        with pytest.raises(WeightsError, match='not a valid'):
            resolve(tmp_path / name)

    def test_tflite_label_map(self, tmp_path: Path) -> None:
        pytest.importorskip('ai_edge_litert', reason='ai-edge-litert is not installed')
        name = 'coral/deeplabv3_mnv2_dm05_pascal_quant.tflite'
        public = Path(__file__).parents[3] / 'shared' / 'data' / 'weights' / name
        if not public.is_file():
            pytest.skip(f'../shared/data/weights/{name} is not here')
        known = tmp_path / 'net.tflite'
        known.symlink_to(public)
        card = resolve(known)
        assert (card.name, card.weights.uri) == (
            'deeplabv3_mobilenetv2_050.voc21_uint8',
            str(known),
        )
        # Another file, if only by a byte that no reader looks at, is not the one the card is of.
        (tmp_path / 'other.tflite').write_bytes(public.read_bytes() + b'\0')
        with pytest.raises(ModelCardError, match='kind: labels') as caught:
            resolve(tmp_path / 'other.tflite')
        assert 'size_hw: [513, 513]' in str(caught.value)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('["a", "b"]', ('a', 'b')),
        ("{0: 'a', 1: 'b'}", ('a', 'b')),
        ('{"1": "b", "0": "a"}', ('a', 'b')),
        ("{0: 'a', 2: 'b'}", ()),
        ('[1, 2]', ()),
        ('__import__("os").getcwd()', ()),
        ('', ()),
    ],
)
def test_class_names_of_metadata(text: str, expected: tuple[str, ...]) -> None:
    assert _class_names(text) == expected
