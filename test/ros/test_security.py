"""The SROS2 policy covers what the node really opens, and the sources have no way to run files."""

from __future__ import annotations

import ast
import fnmatch
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from ros_harness import wait_until

import seg_perception

PACKAGE = Path(seg_perception.__file__).parent
# With another transport, simulated time or prompts, where tf2_ros is installed, and what every
# node is allowed in ROS 2.
NOT_SUBSCRIBED_HERE = {
    '/camera/image_raw/compressed',
    '/clock',
    '/segmentation/prompt',
    '/camera/segmentation/prompt',
    '/tf',
    '/tf_static',
    '/parameter_events',
}
POLICY = Path(__file__).parents[2] / 'config' / 'sros2' / 'segmentation.policy.xml'


def allowed(kind, way):
    """The full names that the policy allows, as patterns."""
    [profile] = ET.parse(POLICY).getroot().iter('profile')
    names = [
        (name.text or '').strip()
        for group in profile.iter(f'{kind}s')
        if group.get(way) == 'ALLOW'
        for name in group.iter(kind)
    ]
    own = f'{profile.get("ns")}{profile.get("node")}'
    return [
        n.replace('~', own) if n.startswith('~') else n if n[0] == '/' else f'/{n}' for n in names
    ]


def outside(names, patterns):
    return sorted(n for n in names if not any(fnmatch.fnmatchcase(n, p) for p in patterns))


def unused(names, patterns):
    return sorted(p for p in patterns if not any(fnmatch.fnmatchcase(n, p) for n in names))


@pytest.mark.distro
def test_the_policy_covers_what_the_node_opens(ros, spawn):
    from vision_msgs.msg import Detection3DArray  # what else is here needs no ROS

    spawn(
        'node',
        {
            'lazy': False,
            'camera.depth_topic': '/camera/depth/image_raw',
            'mask_classes': ['*'],
            'point_classes': ['*'],
            'drivable_classes': ['person'],
            'grasp_target': 'person',
            'label_info_sync': True,
        },
    )
    ros.wait_for_state('segmentation', 'active', 90.0)

    # Depth is received only while an output made from it is listened to.
    ros.collect('/camera/segmentation/objects_3d', Detection3DArray)
    for opened_by, kind, way, not_here in (
        (ros.publishers_of, 'topic', 'publish', set()),
        (ros.subscriptions_of, 'topic', 'subscribe', NOT_SUBSCRIBED_HERE),
        (ros.services_of, 'service', 'reply', set()),
    ):
        patterns = allowed(kind, way)
        # Names are discovered one by one; by then all are there, and none is allowed in vain.
        wait_until(
            lambda o=opened_by, p=patterns, n=not_here: set(unused(o('segmentation'), p)) <= n,
            30.0,
            f'use of every {kind} that the policy allows to {way}',
        )
        assert outside(opened_by('segmentation'), patterns) == []


# Whole names of calls that run what a file or a text says.
DANGEROUS = {
    *('eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen'),
    *('pickle.load', 'pickle.loads', 'yaml.unsafe_load', 'yaml.full_load', 'marshal.loads'),
    *('shelve.open', 'joblib.load', 'dill.load', 'dill.loads', 'cloudpickle.loads'),
    *('tarfile.open', 'shutil.unpack_archive'),
}
SAFE_LOADERS = {'UniqueKeyLoader', 'CardLoader', 'SafeLoader', 'yaml.SafeLoader'}


def complaints(source):
    """Calls in a source that could run what somebody else wrote."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
        if name in DANGEROUS or name.endswith(('.extractall', '.extract')):
            found.append(f'line {node.lineno}: {name}')
        if name == 'yaml.load' and options.get('Loader') not in SAFE_LOADERS:
            found.append(f'line {node.lineno}: {name} with {options.get("Loader")}')
        if name == 'torch.load' and options.get('weights_only') != 'True':
            found.append(f'line {node.lineno}: {name} without weights_only=True')
        if options.get('shell') == 'True':
            found.append(f'line {node.lineno}: {name} with a shell')
        if options.get('allow_pickle') == 'True' or options.get('trust_remote_code') == 'True':
            found.append(f'line {node.lineno}: {name} runs what it loads')
    return found


@pytest.mark.parametrize(
    'source',
    [
        'eval(text)',
        'pickle.loads(data)',
        'yaml.load(text, Loader=yaml.Loader)',
        'yaml.load(text)',
        'torch.load(path)',
        'torch.load(path, weights_only=False)',
        'subprocess.run(line, shell=True)',
        'archive.extractall(folder)',
        'np.load(path, allow_pickle=True)',
    ],
)
def test_the_search_finds_what_is_dangerous(source):
    assert complaints(source)


def test_the_search_lets_the_rest_pass():
    safe = 'yaml.safe_load(t); torch.load(p, weights_only=True); net.eval(); re.compile(p)'
    assert complaints(safe) == []


def test_no_source_runs_what_files_say():
    found = {
        str(path.relative_to(PACKAGE)): lines
        for path in sorted(PACKAGE.rglob('*.py'))
        if (lines := complaints(path.read_text(encoding='utf-8')))
    }
    assert found == {}
