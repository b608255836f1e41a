"""Reports of hand-made figures: as JSON, as Markdown, as a picture, and two compared."""

from __future__ import annotations

import copy
import json
import math

import cv2
import pytest

from seg_perception.benchmarks.comparison import compare
from seg_perception.benchmarks.report import (
    make_document,
    read_json,
    to_markdown,
    write_report,
)
from seg_perception.cli.main import main
from seg_perception.errors import ConfigurationError


def mode(cpu_ms, **more):
    latency = {'num': 3, 'p50': 2.0, 'p95': 3.0, 'p99': 3.5}
    return {'frames': 3, 'rate_hz': 10.0, 'latency_ms': latency, 'cpu_ms_per_frame': cpu_ms} | more


def case(title, num_classes=21, cpu_ms=4.0):
    live = {
        'jitter_ms': math.nan,
        'missed': 2,
        'cpu_ms_per_frame_by_thread': {'executor': 1.0, 'workers': 3.0},
        'rss_mib': {'steady': 300.0, 'peak': 310.0},
        'stages_ms': {f'stage_infer_{p}': 0.5 for p in ('p50', 'p95', 'p99')},
    }
    return {
        'case': {
            'model': 'null',
            'num_classes': num_classes,
            'size_wh': [1280, 720],
            'outputs': 'labels',
        },
        'title': title,
        'copies_ms': 0.25,
        'modes': {'bare': mode(0.3), 'node': mode(cpu_ms, **live), 'plain': mode(20.0, **live)},
        'ratios': {'node_cpu_over_plain': cpu_ms / 20.0},
    }


@pytest.fixture
def document():
    return make_document([case('small'), case('large', 150, 8.0)], 'seg-perception bench', 0.25)


def test_document_says_what_it_was_measured_on(document):
    assert document['hardware']['num_cores'] >= 1
    assert {'cpu', 'memory_gib', 'gpu', 'kernel'} <= document['hardware'].keys()
    assert {'python', 'torch', 'numpy'} <= document['versions'].keys()


def test_markdown_has_every_figure(document):
    lines = to_markdown(document).splitlines()
    assert '25% of the cores busy with other work before' in lines[0]
    assert '| small | forward alone | 0.30 | 2.00 / 3.00 / 3.50 | 10.0 |  |  |  |' in lines
    assert '|  | node | 4.00 | 2.00 / 3.00 / 3.50 | 10.0 | 2 | – | 300 / 310 |' in lines
    assert "| | the node's executor | 1.00 | | | | | |" in lines
    assert '| | *node cpu over plain 0.20* | | | | | | |' in lines
    assert '| large | infer | 0.50 / 0.50 / 0.50 |' in lines
    tables = [line for line in lines if line.startswith('|')]
    assert {line.count('|') for line in tables} == {9, 4}


def test_written_reports_are_read_back(document, tmp_path):
    pytest.importorskip('matplotlib', reason="matplotlib (extra 'bench') is not installed")
    write_report(document, tmp_path / 'new')
    read = read_json(tmp_path / 'new' / 'report.json')
    assert read['cases'][1]['modes']['node']['cpu_ms_per_frame'] == 8.0
    assert read['cases'][0]['modes']['node']['jitter_ms'] is None
    assert to_markdown(read) == (tmp_path / 'new' / 'report.md').read_text(encoding='utf-8')
    picture = cv2.imread(str(tmp_path / 'new' / 'report.png'))
    assert picture.std() > 10


@pytest.mark.parametrize('text', ['', '[]', '{"schema": 99}'])
def test_what_is_not_a_report_is_refused(tmp_path, text):
    path = tmp_path / 'report.json'
    path.write_text(text)
    with pytest.raises(ConfigurationError, match='expected a report'):
        read_json(path)


def test_comparison_shows_ratios_of_common_cases(document, tmp_path, capsys):
    after = copy.deepcopy(document)
    after['cases'] = [case('large', 150, 2.0), case('new')]
    after['hardware']['cpu'] = 'another'
    paths = [tmp_path / 'before.json', tmp_path / 'after.json']
    for path, content in zip(paths, (document, after), strict=True):
        path.write_text(json.dumps(content))
    assert main(['bench', '--compare', *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f'cpu: {document["hardware"]["cpu"]} → another' in lines
    assert '|  | node | CPU ms/frame | 8.00 | 2.00 | 0.25 |' in lines
    assert not any('small' in line or 'new' in line for line in lines)
    assert main(['bench', '--json', '--compare', *map(str, paths)]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert {'what': 'cpu', 'before': document['hardware']['cpu'], 'after': 'another'} in compared[
        'changes'
    ]
    [row] = [r for r in compared['rows'] if (r['mode'], r['figure']) == ('node', 'CPU ms/frame')]
    assert (row['case'], row['before'], row['after'], row['ratio']) == ('large', 8.0, 2.0, 0.25)


def test_comparison_needs_a_common_case(document):
    other = {**document, 'cases': [case('other')]}
    with pytest.raises(ConfigurationError, match='got small, large and other'):
        compare(document, other)
