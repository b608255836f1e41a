"""What users get wrong, at every command: one line that says what to do, and never a traceback."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from seg_perception.cli.main import main

MODEL = 'deeplabv3_mobilenetv2.voc21'
FILES = {
    'empty.onnx': b'',
    'empty.tflite': b'',
    'empty.pth': b'',
    'empty.safetensors': b'',
    'nothing.yaml': b'',
    'broken.yaml': b'[unclosed\n',
    'list.yaml': b'- 1\n',
    'binary.yaml': b'\xff\xfe\x00',
    'thin.yaml': b'name: x\n',
    'notes.txt': b'hello\n',
    'other.json': b'{"a": 1}\n',
    'empty.json': b'',
}

# Each with what is said of it.
FAILURES = """
models show nowhere.onnx                           | expected a model card or model file
models show folder                                 | expected a folder with card.yaml
models show empty.onnx                             | is not a valid ONNX model
models show nothing.yaml                           | expected a mapping of fields, got None
models show broken.yaml                            | is not valid YAML: line 2, column 1: expected
models show list.yaml                              | expected a mapping of fields, got [1]
models show binary.yaml                            | is not valid YAML: unacceptable character
models show thin.yaml                              | the field is required
models show notes.txt                              | expected one of .yaml
models show hf:folder                              | expected a folder with config.json
models show hf:no/such/thing                       | org/name
models show smp:folder                             | expected a folder with config.json
models show deeplabv3_mobilenetv2                  | did you mean deeplabv3_mobilenetv2.voc21
models pull nowhere                                | no 'nowhere' in the catalog. It has:
models import nowhere.onnx                         | expected a model file
models import empty.onnx                           | is not a valid ONNX model
models import empty.tflite                         | is not a valid TFLite model
models import empty.safetensors                    | is not a whole safetensors file
models import empty.pth                            | is not a whole torch checkpoint
models import folder                               | with config.json
models import notes.txt                            | expected a model file
dataset check                                      | expected a configuration file, or --layout
dataset check nowhere.yaml                         | cannot be read: No such file or directory
dataset check folder                               | cannot be read: Is a directory
dataset check nothing.yaml                         | expected a mapping of fields
dataset check broken.yaml                          | is not valid YAML: line 2, column 1
dataset check binary.yaml                          | is not valid YAML: unacceptable character
dataset check thin.yaml                            | expected a 'data' section
dataset check --layout x --root folder             | expected one of folders, camvid
dataset check --layout folders --root nowhere --classes a,b | expected a folder, nowhere is none
dataset check --layout folders --root folder --classes a,b | expected a folder of images or masks
dataset check --layout folders --root folder --classes a,b --set x | expected section.field=value
dataset check --layout coco --root folder          | needs its JSON file
train nowhere.yaml                                 | cannot be read: No such file or directory
train folder                                       | cannot be read: Is a directory
train list.yaml                                    | expected a mapping of fields, got [1]
train thin.yaml --set x                            | expected section.field=value, got 'x'
train thin.yaml --set a=[                          | is not valid YAML: line 1, column 2
evaluate {model} nowhere.yaml                      | cannot be read: No such file or directory
evaluate {model} binary.yaml                       | is not valid YAML
evaluate nowhere thin.yaml                         | expected a 'data' section
export nowhere -o out                              | no 'nowhere' in the catalog
export {model} -o notes.txt                        | expected a new or empty folder
export {model} -o /dev/null/out                    | /dev/null: File exists; remove it, or choose
export {model} -o out --int8 --images nowhere      | expected images (.jpg, .jpeg, .png)
export {model} -o out --weights notes.txt          | expected 4205466 bytes, got 6 (truncated)
export {model} -o out --weights nowhere            | expected the given weights file, found no file
nav2-config --model {model} --drivable flor        | no class 'flor'
nav2-config --model {model} --drivable ''          | expected at least one class name
nav2-config --model {model} --drivable cat --resolution 0 | resolution: expected 0.001 to 10, got 0
nav2-config --model {model} --drivable cat -o folder | cannot write folder
bench --size 0x0                                   | expected sizes and counts of at least 1
bench --encoding rgb9                              | expected an encoding among jpeg, rgb8
bench --accept nothing                             | expected bounds among
bench --compare empty.json other.json              | expected a report of this command
bench --compare folder folder                      | expected a report of this command
bench --parity --engine tvm                        | --engine: expected some of auto, native
bench --parity --images folder                     | expected images
bench --parity --live a b                          | expected one of --accept, --compare
bench --out notes.txt                              | notes.txt: File exists; remove it
soak --minutes 0                                   | expected minutes above 0
soak --report /dev/null/x                          | /dev/null: File exists; remove it, or choose
demo --rate -1                                     | expected a rate of 0 Hz or more
demo --out notes.txt                               | notes.txt: File exists; remove it
doctor --seconds 0                                 | --seconds: expected more than 0
"""
WRONG_ARGUMENTS = """
params --format yml                                | unknown value 'yml': did you mean yaml?
dataset chek                                       | unknown command 'chek': did you mean check?
dataset check --workers -1                         | expected a number of 0 or more, got '-1'
train                                              | the following arguments are required: config
export {model}                                     | are required: -o/--out
models import empty.onnx --mean 1 2                | expected 3 arguments
bench --size 640                                   | expected sizes as 1280x720, got '640'
bench --threads two                                | expected whole numbers, got 'two'
bench --gpu --batch x                              | expected whole numbers, got 'x'
bench --domain-id 233                              | expected a ROS domain of 0 to 232, got '233'
completion tcsh                                    | expected one of bash, zsh, fish
"""


def cases(table):
    return [
        tuple(part.strip() for part in line.split(' | ')) for line in table.strip().splitlines()
    ]


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'folder').mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(('line', 'message'), cases(FAILURES))
def test_a_failure_is_explained_in_one_line(line, message, here, capsys):
    assert main(shlex.split(line.format(model=MODEL))) == 1
    out, err = capsys.readouterr()
    [*_, last] = err.splitlines()
    assert last.startswith('error: ')
    assert message in last
    assert 'Traceback' not in err
    assert out == ''
    assert {path.name for path in here.iterdir()} == {*FILES, 'folder'}  # nothing is left behind


@pytest.mark.parametrize(('line', 'message'), cases(WRONG_ARGUMENTS))
def test_wrong_arguments_end_with_2(line, message, here, capsys):
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line.format(model=MODEL)))
    assert ended.value.code == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert message in error
    assert hint.endswith("--help'")


BLOCKED = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in blocked:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

blocked = set(sys.argv[1].split(','))
sys.meta_path.insert(0, Blocker())
from seg_perception.cli.main import main
for line in json.loads(sys.argv[2]):
    print('code', main(line), file=sys.stderr)
"""


def test_what_is_not_installed_is_named_with_its_extra(here):
    """In a process that cannot import them."""
    expected = {
        'models import empty.onnx': 'seg_perception[onnx]',
        'models import empty.tflite': 'seg_perception[tflite]',
        f'export {MODEL} -o out --format onnx --int8': 'seg_perception[demo]',
        'bench': 'seg_perception[ros]',
        'demo': 'seg_perception[ros]',
        'soak': 'seg_perception[ros]',
        'params --node monitor_node': 'seg_perception[ros]',
        'models show hf:org/name': 'seg_perception[hf]',
        'models show torchvision:fcn_resnet50': 'seg_perception[torchvision]',
        'models show numberless.onnx': 'found none',
    }
    blocked = (
        'onnx,onnxruntime,ai_edge_litert,skimage,rclpy,huggingface_hub,transformers,torchvision'
    )
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            BLOCKED,
            blocked,
            json.dumps([shlex.split(line) for line in expected]),
        ],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    assert 'Traceback' not in done.stderr
    lines = [
        line for line in done.stderr.splitlines() if line.startswith(('error', 'code', 'int'))
    ]
    said = dict(zip(expected, zip(lines[::2], lines[1::2], strict=True), strict=True))
    for line, extra in expected.items():
        assert said[line][1] == 'code 1', (line, said[line])
        assert extra in said[line][0]
