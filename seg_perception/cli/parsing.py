"""The parser of all commands: help that is wrapped and shows defaults, and errors that suggest."""

from __future__ import annotations

import argparse
import difflib
import math
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from seg_perception.cli.endings import WRONG_ARGUMENTS, flush_stdout

MAX_WIDTH = 80
MAX_DOMAIN_ID = 232
"""More would need UDP ports that there are not."""
EXAMPLE = '  seg-perception '
"""How a line of an epilog begins that is an example."""

_JOINT = '\0'
_KINDS: dict[Any, str] = {int: 'a whole number', float: 'a number'}


class HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs to at most 80 columns, keeps indented lines, shows defaults."""

    def __init__(self, prog: str, **more: Any) -> None:
        width = min(shutil.get_terminal_size().columns, MAX_WIDTH) - 1
        super().__init__(prog, **{'width': width, 'max_help_position': 26, **more})

    def _format_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Any, prefix: Any
    ) -> str:
        # All options are listed below; here are those that have to be given.
        needed = [action for action in actions if action.required or not action.option_strings]
        if usage is None and len(needed) < len(list(actions)):
            usage = super()._format_usage(None, needed, [], '').strip()
            usage = usage.replace(self._prog, '%(prog)s [options]', 1)
        return super()._format_usage(usage, needed, [], prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = textwrap.dedent(text).strip('\n').split('\n\n')
        return '\n\n'.join(_fill_paragraph(paragraph, width) for paragraph in paragraphs)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        if not text or action.nargs == 0 or '(default' in text or '%(default)' in text:
            return text
        default = action.default
        if default is None or default is argparse.SUPPRESS or default in ('', [], ()):
            return text
        is_list = isinstance(default, list | tuple)
        shown = ','.join(map(str, default)) if is_list else str(default)
        return f'{text} (default: {shown.replace("%", "%%")})'


class CommandParser(argparse.ArgumentParser):
    """A parser as all commands have it; those of sub-commands are of this class by themselves.

    Has ``--debug``, takes no abbreviated options (a script would break when another option is
    added), and says of a wrong word what was meant, in two lines.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(
            *args, **{'formatter_class': HelpFormatter, 'allow_abbrev': False, **more}
        )
        self.add_argument(
            '--debug',
            action='store_true',
            # Whether it is given before or after the command's name.
            default=argparse.SUPPRESS,
            help='show the traceback of an error',
        )

    def error(self, message: str) -> NoReturn:
        """Ends the process with 2."""
        print(f"error: {message}\ntry '{self.prog} --help'", file=sys.stderr)
        sys.exit(WRONG_ARGUMENTS)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Ends the process, after help for example, whether or not anybody reads it."""
        flush_stdout()
        super().exit(status, message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the base, but what is not known is an error, here where the options are known."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition('=')[0]
            hint = did_you_mean(word, self._option_string_actions)
            self.error(f'unexpected argument {word}{hint}')
        return parsed, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = action.choices
        if choices is None or value in choices or isinstance(action, OpenCommands):
            return
        words = list(map(str, choices))
        kind = 'command' if isinstance(action, argparse._SubParsersAction) else 'value'
        raise argparse.ArgumentError(
            None if kind == 'command' else action,
            f'unknown {kind} {value!r}{did_you_mean(str(value), words)} '
            f'(expected one of {", ".join(words)})',
        )

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        kind = _KINDS.get(action.type)
        try:
            value = super()._get_value(action, arg_string)
        except argparse.ArgumentError:
            if kind is None:
                raise
            raise argparse.ArgumentError(action, f'expected {kind}, got {arg_string!r}') from None
        if isinstance(value, float) and not math.isfinite(value):
            raise argparse.ArgumentError(action, f'expected {kind}, got {arg_string!r}')
        return value


class OpenCommands(argparse._SubParsersAction):  # type: ignore[type-arg]
    """Sub-commands of which one can be left out: ``default`` takes words that name none.

    Args:
        default: the command meant where the first word is none.
    """

    def __init__(self, *args: Any, default: str, **more: Any) -> None:
        super().__init__(*args, **more)
        self._default_command = default

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Parses the words with the command's parser."""
        assert isinstance(values, Sequence)
        words = list(values)
        if words[0] not in self._name_parser_map:
            words.insert(0, self._default_command)
        super().__call__(parser, namespace, words, option_string)


def domain_id(text: str) -> int:
    """A ROS domain; for ``type`` of an option."""
    if not text.isascii() or not text.isdigit() or int(text) > MAX_DOMAIN_ID:
        raise argparse.ArgumentTypeError(
            f'expected a ROS domain of 0 to {MAX_DOMAIN_ID}, got {text!r}'
        )
    return int(text)


def whole_numbers(text: str) -> list[int]:
    """Numbers separated by commas; for ``type`` of an option."""
    try:
        return [int(part) for part in words(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f'expected whole numbers, got {text!r}') from None


def words(text: str) -> list[str]:
    """Words separated by commas; for ``type`` of an option."""
    parts = [part for part in text.split(',') if part]
    if not parts:
        raise argparse.ArgumentTypeError('expected at least one value')
    return parts


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--json``; the command then prints nothing on stdout but by `output.print_json`."""
    parser.add_argument('--json', action='store_true', help='print one JSON document, for scripts')


def complete_with(
    action: argparse.Action, words: Callable[[str], Iterable[str]]
) -> argparse.Action:
    """Has the shell complete an argument.

    Args:
        action: what ``add_argument`` returned.
        words: takes what was typed so far; returns words that begin so (others are ignored).
            Called at every press of Tab: quick, and without heavy imports.

    Returns:
        The action.
    """
    action.completer = lambda prefix, **_: words(prefix)  # type: ignore[attr-defined]
    return action


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``: did you mean …?`` where something known is near; else nothing."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f': did you mean {nearest[0]}?' if nearest else ''


def examples_of(parser: argparse.ArgumentParser) -> list[list[str]]:
    """The arguments of the examples in a parser's epilog, without the program's name."""
    lines = (parser.epilog or '').replace('\\\n', ' ').splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(EXAMPLE)]


def _fill_paragraph(paragraph: str, width: int) -> str:
    lines = paragraph.splitlines()
    if not any(line.startswith(' ') for line in lines):
        return textwrap.fill(
            ' '.join(lines), width, break_long_words=False, break_on_hyphens=False
        )
    return '\n'.join(_continued(line, width) for line in lines)


def _continued(line: str, width: int) -> str:
    """A line that is kept; an example that is too long is continued as the shell has it."""
    if len(line) <= width or not line.startswith(EXAMPLE):
        return line
    # An option stays with its value.
    joined = re.sub(r'(\s-[-\w]+) (?=[^-\s])', rf'\1{_JOINT}', line.strip())
    rows = textwrap.wrap(
        joined,
        width - 2,
        initial_indent='  ',
        subsequent_indent='      ',
        break_long_words=False,
        break_on_hyphens=False,
    )
    return ' \\\n'.join(rows).replace(_JOINT, ' ')
