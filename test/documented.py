"""The code blocks of the documentation: found, parted into commands, and checked unrun.

A block is fenced (```` ```python ````) or indented by four spaces; what is indented is shell.
What a test cannot run says so in a comment before the block, which readers of the page do not
see::

    <!-- not run: needs a camera -->

``<!-- output -->`` marks what is printed and no command, ``<!-- for 10 s -->`` a command that ends
when it is interrupted.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]

# What these need is on no package registry, or is not the tests' to change.
NOT_HERE: Mapping[str, str] = {
    'ros2': 'the ros2 command comes with a ROS 2 installation; there is no wheel of it',
    'rviz2': 'RViz comes with a ROS 2 installation; there is no wheel of it',
    'colcon': 'needs a workspace beside a ROS 2 installation',
    'rosdep': 'installs packages of the system',
    'apt': 'installs packages of the system',
    'sudo': 'changes the system',
    'docker': 'there is no container engine where the tests run',
    'git': 'the tests run in a checkout already',
    'curl': 'the tests fetch nothing',
    'jq': 'a tool of the system that scripts/setup does not bring',
}
# pip installs nothing in the tests (PIP_DRY_RUN), so that it can be run as it stands.
SEPARATORS = {'&&', '||', '|', ';', '&'}
PACKAGE = 'seg_perception'
LAUNCH = ROOT / 'launch'


@dataclass(frozen=True)
class Block:
    """Code as a page shows it.

    Attributes:
        page: the page, from the checkout's root.
        line: where it begins, from 1.
        language: of the fence, ``sh`` for what is indented.
        text: the code.
        note: what the comment before it says, empty where there is none.
    """

    page: str
    line: int
    language: str
    text: str
    note: str

    @property
    def where(self) -> str:
        """For messages: page and line."""
        return f'{self.page}:{self.line}'

    @property
    def is_shell(self) -> bool:
        """Whether it holds commands."""
        return self.language in ('sh', 'bash', 'shell') and self.note != 'output'

    @property
    def is_python(self) -> bool:
        """Whether it is Python."""
        return self.language in ('python', 'py')

    @property
    def reason(self) -> str:
        """Why it is not run; empty where it is."""
        return self.note.removeprefix('not run: ') if self.note.startswith('not run: ') else ''

    @property
    def seconds(self) -> float | None:
        """After how long its commands are interrupted; None where they end by themselves."""
        match = re.fullmatch(r'for (\d+) s', self.note)
        return float(match[1]) if match else None

    def commands(self) -> list[str]:
        """Its commands, each with the lines it goes on in; of a transcript those after ``$``."""
        if not self.is_shell:
            return []
        lines = self.text.splitlines()
        if lines[0].startswith('$ '):
            lines = [line[2:] for line in lines if line.startswith('$ ')]
        commands, pending = [], ''
        for line in lines:
            pending += line
            if not _is_closed(pending):
                pending += '\n'
            elif pending.strip() and not pending.lstrip().startswith('#'):
                commands.append(pending)
                pending = ''
            else:
                pending = ''
        assert not pending, f'{self.where}: a command that does not end: {pending}'
        return commands


def _is_closed(text: str) -> bool:
    """Whether a command ends here: no open quote, no line that goes on, no open here-document."""
    here = re.search(r"<<-?'?(\w+)'?", text)
    if here:
        return text.splitlines()[-1] == here[1]
    if text.endswith('\\'):
        return False
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True


def blocks(path: Path) -> list[Block]:
    """All code blocks of a page, in order."""
    page, found, note = str(path.relative_to(ROOT)), [], ''
    lines = path.read_text(encoding='utf-8').splitlines()
    index, is_after_blank = 0, True
    while index < len(lines):
        line, start = lines[index], index + 1
        fence = re.match(r'^```+(\w*)', line)
        if fence:
            end = next(i for i in range(index + 1, len(lines)) if lines[i].startswith('```'))
            text = '\n'.join(lines[index + 1 : end])
            found.append(Block(page, start, fence[1] or 'text', text, note))
            index, note = end + 1, ''
            continue
        if is_after_blank and line.startswith('    '):
            end = index
            while end < len(lines) and (lines[end].startswith('    ') or not lines[end].strip()):
                end += 1
            text = '\n'.join(item[4:] for item in lines[index:end]).rstrip()
            found.append(Block(page, start, 'sh', text, note))
            index, note, is_after_blank = end, '', True
            continue
        comment = re.fullmatch(r'<!-- (.*?) -->', line.strip())
        if comment:
            note = comment[1]
        elif line.strip():
            note = ''
        is_after_blank = not line.strip() or comment is not None
        index += 1
    return found


def words(command: str) -> list[str]:
    """The words of a command, quotes taken off, without comments and here-documents."""
    command = re.sub(r"<<-?'?\w+'?.*", '', command, flags=re.DOTALL)
    parts = shlex.shlex(command.replace('\\\n', ' '), posix=True, punctuation_chars='|&;<>')
    parts.whitespace_split = True
    return list(parts)


def simple_commands(command: str) -> Iterator[list[str]]:
    """The commands that ``&&``, pipes and the like join, without variables set before them."""
    current: list[str] = []
    for word in [*words(command), ';']:
        if word in SEPARATORS:
            while current and re.match(r'^\w+=', current[0]):
                current = current[1:]
            if current:
                yield current
            current = []
        else:
            current.append(word)


def reason_not_here(command: str) -> str:
    """Why a command cannot be run by a test; empty where it can."""
    for simple in simple_commands(command):
        name = simple[0]
        if name in NOT_HERE:
            return NOT_HERE[name]
        if name in ('source', '.') and 'install/setup.bash' in command:
            return NOT_HERE['colcon']
        if '$(ros2 ' in command:
            return NOT_HERE['ros2']
    return ''


# What can be said of a command without running it


def complaints(command: str) -> list[str]:
    """What is wrong with a command: arguments, parameters, services and files that are not."""
    found: list[str] = []
    for simple in simple_commands(command):
        if simple[0] == 'ros2':
            found += _ros2_complaints(simple[1:])
        elif simple[0] == 'seg-perception':
            found += _arguments_complaints(simple[1:])
    for path in re.findall(r'(?<![\w/.$])(?:\./)?((?:config|scripts|launch)/[\w./-]+)', command):
        if not (ROOT / path).exists():
            found.append(f'no such file: {path}')
    for path in re.findall(r'--share seg_perception\)/([\w./-]+)', command):
        if not (ROOT / path).exists():
            found.append(f'nothing installs share/seg_perception/{path}')
    return found


def _ros2_complaints(rest: list[str]) -> list[str]:
    match rest:
        case ['launch', 'seg_perception', file, *arguments]:
            return _launch_complaints(file, arguments)
        case ['run', 'seg_perception', executable, *arguments]:
            if not (ROOT / 'resource/executables' / executable).is_file():
                return [f'no such executable: {executable}']
            return _parameter_complaints(executable, arguments)
        case ['param', 'set', _, name, value]:
            return _change_complaints(name, value)
        case ['service', 'call', name, service_type, *_] if name.startswith('/segmentation/'):
            services = {'enable': 'std_srvs/srv/SetBool', 'segment': 'std_srvs/srv/Trigger'}
            own = name.removeprefix('/segmentation/')
            if own in services and services[own] != service_type:
                return [f'{name} is a {services[own]}']
            is_known = own in services or own in ('change_state', 'get_state')
            return [] if is_known else [f'no such service: {name}']
        case ['topic', _, *options]:
            topics = [word for word in options if '/segmentation/' in word]
            return [f'no such output: {topic}' for topic in topics if not _is_output(topic)]
    return []


def _launch_complaints(file: str, arguments: list[str]) -> list[str]:
    if not (LAUNCH / file).is_file():
        return [f'no such launch file: {file}']
    allowed = launch_arguments(file)
    return [
        f'{file} has no argument {name}'
        for name in (word.split(':=')[0] for word in arguments if ':=' in word)
        if name not in allowed
    ]


@cache
def launch_arguments(file: str) -> frozenset[str]:
    """The arguments of a launch file and of those it includes, by reading it."""
    text = (LAUNCH / file).read_text(encoding='utf-8')
    names = {
        call.args[0].value
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call)
        and getattr(call.func, 'id', '') in ('DeclareLaunchArgument', 'argument')
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    included = set(re.findall(r"'(\w+\.launch\.py)'", text)) - {file}
    return frozenset(names).union(*(launch_arguments(name) for name in included))


def _tables(node: str) -> Mapping[str, tuple[Any, Any]]:
    """Defaults and meanings by name of the parameters of a node; those of a camera with a dot."""
    from seg_perception.ros import params_text
    from seg_perception.ros.options import rows

    return {
        ('.' if prefix else '') + name: (default, meaning)
        for table, prefix in params_text._tables(node)
        for name, default, meaning in rows(table)
    }


def _value_complaints(node: str, name: str, value: Any) -> list[str]:
    from seg_perception.errors import ConfigurationError
    from seg_perception.ros.options import checked

    if name.startswith('qos_overrides.') or name == 'use_sim_time':
        return []
    tables = _tables(node)
    camera, _, rest = name.rpartition('.')
    row = tables.get(f'.{rest}' if camera else name)
    if row is None:
        return [f'{node} has no parameter {name}']
    try:
        checked(name, value, *row)
    except ConfigurationError as error:
        return [str(error)]
    return []


def _parameter_complaints(node: str, arguments: list[str]) -> list[str]:
    found = []
    for flag, word in pairwise(arguments):
        if flag in ('-p', '--param') and '$' not in word:
            name, _, value = word.partition(':=')
            found += _value_complaints(node, name, yaml.safe_load(value))
    return found


def _change_complaints(name: str, value: str) -> list[str]:
    tables = _tables('segmentation_node')
    row = tables.get(f'.{name.rpartition(".")[2]}' if '.' in name else name)
    if row is None:
        return [f'segmentation_node has no parameter {name}']
    if not (row[1].is_live or row[1].is_swapped):
        return [f'{name} cannot be changed while the node runs']
    return _value_complaints('segmentation_node', name, yaml.safe_load(value))


@cache
def _outputs() -> frozenset[str]:
    page = (ROOT / 'docs/segmentation_node.md').read_text(encoding='utf-8')
    return frozenset(re.findall(r'^\| `([\w/<>]+)` \| \w+_msgs/', page, re.MULTILINE))


def _is_output(topic: str) -> bool:
    output = topic.partition('/segmentation/')[2]
    general = re.sub(r'^(masks|points)/.*', r'\1/<class>', output)
    return general in _outputs() or output == 'prompt'


def _arguments_complaints(arguments: list[str]) -> list[str]:
    import contextlib
    import io

    from seg_perception.cli.main import build_parser

    arguments = arguments[: next((i for i, w in enumerate(arguments) if not w.strip('<>')), None)]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            build_parser().parse_args(arguments)
        except SystemExit as end:
            if end.code:
                return [' '.join(said.getvalue().split())]
    return []


def parameter_file_complaints(text: str) -> list[str]:
    """What is wrong with a YAML block: its syntax, or parameters that the node does not have."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return [str(error)]
    found = []
    for node, group in (content or {}).items() if isinstance(content, dict) else ():
        if not (isinstance(group, dict) and 'ros__parameters' in group):
            continue
        if node.strip('/') not in ('**', 'segmentation'):
            continue
        values = group['ros__parameters']
        cameras = values.get('cameras', ['camera'])
        for name, value in values.items():
            if isinstance(value, dict) and name in cameras:
                for key, item in value.items():
                    found += _value_complaints('segmentation_node', f'{name}.{key}', item)
            elif name != 'qos_overrides':
                found += _value_complaints('segmentation_node', name, value)
    return found


def import_complaints(text: str) -> list[str]:
    """What Python code imports of this package that is not there, and errors of syntax."""
    import importlib

    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        return [str(error)]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith(PACKAGE):
            module = importlib.import_module(node.module or '')
            found += [
                f'{node.module} has no {alias.name}'
                for alias in node.names
                if not hasattr(module, alias.name)
            ]
    return found
