"""Completion: what is offered, how quickly, and that a real shell takes it when Tab is pressed."""

from __future__ import annotations

import os
import pty
import resource
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from seg_perception.cli.main import main
from seg_perception.models import list_models
from seg_perception.ros.environment import find_share_file

PROGRAM = Path(sys.executable).parent / 'seg-perception'
BREAKS = ' \t\n"\'><=;|&(:'


def offered(line, cwd=None):
    """What the shell is told, by the protocol of argcomplete."""
    env = {
        **os.environ,
        '_ARGCOMPLETE': '1',
        '_ARGCOMPLETE_IFS': '\n',
        '_ARGCOMPLETE_SUPPRESS_SPACE': '1',
        '_ARGCOMPLETE_COMP_WORDBREAKS': BREAKS,
        'COMP_LINE': line,
        'COMP_POINT': str(len(line.encode())),
        'COMP_TYPE': '9',
    }
    reading, writing = os.pipe()
    command = f'exec 8>&{writing} 9>/dev/null; exec {PROGRAM}'
    with open(reading, encoding='utf-8') as answer:
        subprocess.run(
            ['bash', '-c', command], env=env, cwd=cwd, pass_fds=[writing], timeout=60, check=False
        )
        os.close(writing)
        return answer.read().split()


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ('seg-perception mod', {'models'}),
        ('seg-perception models sh', {'show'}),
        ('seg-perception bench --th', {'--threads'}),
        ('seg-perception params --format m', {'markdown'}),
        ('seg-perception soak --xyz', set()),
        ('seg-perception models show mobile', {'mobile_sam', 'mobile.onnx'}),
        ('seg-perception export mobile', {'mobile_sam', 'mobile.onnx'}),
    ],
)
def test_words_that_are_offered(line, words, tmp_path):
    (tmp_path / 'mobile.onnx').touch()
    assert set(offered(line, tmp_path)) == words


def test_every_command_model_and_parameter_is_offered(tmp_path):
    assert {'demo', 'nav2-config', 'completion'} <= set(offered('seg-perception '))
    assert set(offered('seg-perception models show ', tmp_path)) == set(list_models())
    text = find_share_file(Path('config/segmentation.yaml')).read_text(encoding='utf-8')
    parameters = yaml.safe_load(text)['/**']['ros__parameters']
    names = {name for name, value in parameters.items() if not isinstance(value, dict)}
    names |= {f'camera.{name}' for name in parameters['camera']}
    # What comes before the last colon of a word is the shell's.
    assert set(offered('seg-perception demo -p ')) == {f'{name}:=' for name in names}


def test_nobody_waits_for_a_word():
    def cpu_s():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    times_s = []
    for line in 3 * ['seg-perception models show dee', 'seg-perception demo -p obj']:
        before_s = cpu_s()
        assert offered(line)
        times_s.append(cpu_s() - before_s)
    # 0.1 s; the least of them, as a busy machine makes CPU time longer, too.
    assert min(times_s[::2]) < 0.3
    assert min(times_s[1::2]) < 0.3


SHELLS = {
    'bash': ['bash', '--noprofile', '--norc', '-i'],
    'zsh': ['zsh', '-f', '-i'],
    'fish': ['fish', '--no-config', '-i'],
}


@pytest.mark.parametrize('shell', SHELLS)
def test_tab_in_a_real_shell(shell, tmp_path, capsys):
    if shutil.which(shell) is None:
        pytest.skip(f'{shell} is not installed')
    assert main(['completion', shell]) == 0
    (tmp_path / 'lines').write_text(capsys.readouterr().out, encoding='utf-8')
    env = {
        **{name: value for name, value in os.environ.items() if name != 'PROMPT_COMMAND'},
        'PATH': f'{PROGRAM.parent}:{os.environ["PATH"]}',
        'HOME': str(tmp_path),
        'PS1': '',
        'TERM': 'xterm',
    }
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execvpe(SHELLS[shell][0], SHELLS[shell], env)
    try:
        seen = b''

        def wait_for(text):
            nonlocal seen
            deadline_s = time.monotonic() + 60.0
            while text not in seen:
                assert time.monotonic() < deadline_s, f'no {text!r} in {seen!r}'
                if select.select([terminal], [], [], 0.2)[0]:
                    seen += os.read(terminal, 65536)
                    # fish asks terminals what they are, and waits for the answer.
                    if b'\x1b[0c' in seen or b'\x1b[c' in seen:
                        os.write(terminal, b'\x1b[?62c')
                        seen = seen.replace(b'\x1b[0c', b'').replace(b'\x1b[c', b'')
            seen = b''

        # Echoed with the quotes; the output is without.
        os.write(terminal, b'. ./lines; echo rea""dy\r')
        wait_for(b'ready')
        os.write(terminal, b'seg-perception completi\t')
        wait_for(b'on ')
        os.write(terminal, b'zs\t')
        wait_for(b'zsh')
        os.write(terminal, b'> shown; echo do""ne\r')
        wait_for(b'done')
        assert 'compinit' in (tmp_path / 'shown').read_text(encoding='utf-8')
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)
