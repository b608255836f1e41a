"""Cards of YOLO exports, from the file alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import rectangle_finder

from seg_perception.errors import ModelCardError
from seg_perception.models import resolve
from seg_perception.models.yolo_export import card_of_export

SHAPES = ([1, 39, 1600], [1, 32, 40, 40])


@pytest.fixture(scope='module')
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('yolo') / 'My model-seg (3).onnx'
    return rectangle_finder.export(path, is_decoded=False)


def test_the_file_is_enough(exported: Path) -> None:
    card = resolve(str(exported))
    assert card.name == 'my_model-seg__3_'
    assert card.classes.names == rectangle_finder.CLASSES
    assert card.weights.uri == str(exported)
    assert card.input.size_hw == (160, 160)
    assert (card.input.resize, card.input.pad_rgb) == ('letterbox', (114.0, 114.0, 114.0))
    assert (card.input.mean_rgb, card.input.std_rgb) == ((0.0,) * 3, (255.0,) * 3)
    assert card.output.kind == 'yolo_seg'
    assert card.output.gives_objects
    assert card.output.options.score_threshold == 0.25
    assert (card.licence, card.source) == ('Apache-2.0', 'https://example.org/rectangles')


def test_a_card_beside_the_file_wins(exported: Path) -> None:
    beside = exported.with_suffix('.yaml')
    beside.write_text(
        f"""
name: mine
summary: with a threshold of my own
weights: {{uri: "{exported.name}"}}
input:
  {{size_hw: [160, 160], resize: letterbox, mean_rgb: [0, 0, 0], std_rgb: [255, 255, 255]}}
output: {{kind: yolo_seg, options: {{score_threshold: 0.6, iou_threshold: 0.4}}}}
classes: {{names: [a, b, c]}}
licence: Apache-2.0
source: test
"""
    )
    try:
        card = resolve(str(exported))
    finally:
        beside.unlink()
    assert card.name == 'mine'
    options = card.output.options
    assert (options.score_threshold, options.iou_threshold) == (0.6, 0.4)


def card_with(**metadata: str) -> object:
    entries = {'task': 'segment', 'stride': '32', 'names': "{0: 'a'}"} | metadata
    return card_of_export(Path('x.onnx'), entries, ('a', 'b', 'c'), None, SHAPES)


@pytest.mark.parametrize(
    ('imgsz', 'expected'),
    [
        ('[480, 640]', (480, 640)),
        ('(480, 640)', (480, 640)),
        ('512', (512, 512)),
        ('', (640, 640)),
        ('[0, -1]', (640, 640)),
        ('["a", 3]', (640, 640)),
        ('__import__("os").system("touch evil")', (640, 640)),
        ('(' * 10000, (640, 640)),
    ],
)
def test_the_size_is_read_and_never_run(
    imgsz: str, expected: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    card = card_with(imgsz=imgsz)
    assert card.input.size_hw == expected
    assert list(tmp_path.iterdir()) == []


def test_older_exports_do_not_say_their_task() -> None:
    entries = {'stride': '32', 'names': "{0: 'a', 1: 'b', 2: 'c'}"}
    card = card_of_export(Path('x.onnx'), entries, ('a', 'b', 'c'), (640, 640), SHAPES)
    assert card.output.kind == 'yolo_seg'
    with pytest.raises(ModelCardError, match='export a segmentation model'):
        card_of_export(Path('x.onnx'), entries, ('a',), None, [[1, 25200, 6]])


def test_what_is_no_segmentation_export_says_so() -> None:
    with pytest.raises(ModelCardError, match=r"for 'detect' .* export a segmentation model"):
        card_with(task='detect')
    entries = {'task': 'segment', 'stride': '32', 'names': ''}
    with pytest.raises(ModelCardError, match='with outputs'):
        card_of_export(Path('x.onnx'), entries, ('a',), None, [[1, 5, 100]])
    with pytest.raises(ModelCardError, match=r'metadata names: .*at least one class'):
        card_of_export(Path('x.onnx'), entries, (), None, SHAPES)
    with pytest.raises(ModelCardError, match=r'metadata names: .*unique'):
        card_of_export(Path('x.onnx'), entries, ('a', 'a'), None, SHAPES)


def test_without_its_metadata_a_card_is_asked_for(tmp_path: Path) -> None:
    path = rectangle_finder.export(tmp_path / 'm.onnx', is_decoded=False, names=None)
    with pytest.raises(ModelCardError, match='expected a model card at'):
        resolve(str(path))
