"""``seg-perception completion``: what makes a shell complete this program's words with Tab."""

from __future__ import annotations

import argparse
from typing import Any

_EPILOG = """\
examples:
  seg-perception completion bash >> ~/.bashrc
  seg-perception completion zsh >> ~/.zshrc
  seg-perception completion fish > ~/.config/fish/completions/seg-perception.fish

For this shell alone: eval "$(seg-perception completion bash)". Completed are commands, options,
their values, names of models and of parameters, and files.
"""

_ZSH_COMPLETES = '(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }'
"""zsh completes nothing before this, and not everybody's ~/.zshrc has it."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'completion',
        help='print what makes a shell complete commands with Tab',
        description='Prints the lines that make a shell complete the words of seg-perception '
        'when Tab is pressed.',
        epilog=_EPILOG,
    )
    parser.add_argument('shell', choices=('bash', 'zsh', 'fish'), help='which shell')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the lines."""
    from argcomplete.shell_integration import shellcode

    if arguments.shell == 'zsh':
        print(_ZSH_COMPLETES)
    # The code for bash serves zsh, too.
    shell = 'fish' if arguments.shell == 'fish' else 'bash'
    print(shellcode(['seg-perception'], shell=shell).strip())
    return 0
