"""The ``seg-perception`` command: argument parsing only, one file per sub-command.

What every command keeps to, so that people and scripts can rely on it:

- *Results* go to stdout; progress, remarks and errors to stderr.
- *--json* (`parsing.add_json_option`) prints exactly one JSON document on stdout, with
  `output.print_json`, as the last thing the command does. Where the command fails, `main` prints
  ``{"error": {"kind": …, "message": …}}`` there instead.
- *Exit codes* are those of `endings`: 0 done; 1 an explained error or a failed check; 2 wrong
  arguments; 70 a bug of ours; 130 interrupted. ``run`` returns 0 or 1 and raises the rest.
- *Errors*: ``run`` raises `SegPerceptionError` with expected, actual and remedy; `main` prints
  ``error: …``. Operating system errors (no such file, no permission, disk full) are explained in
  the same way without being caught by the command. No traceback, except with ``--debug`` (which
  every parser has) or ``SEG_PERCEPTION_DEBUG=1``.
- *Parsers* are `parsing.CommandParser`, which ``subparsers.add_parser`` makes by itself: give
  ``help`` (one line), ``description`` and ``epilog``, no ``formatter_class``. The epilog begins
  with ``examples:`` and whole command lines, indented by two spaces; a test parses them.
  Paragraphs are wrapped, indented lines are kept, long examples are continued with backslashes,
  and options show their defaults, all by themselves. Every option has ``help``, with its unit.
- *Completion*: `parsing.complete_with` gives an argument its words, e.g. `completers.model_names`.
- Heavy libraries are imported in ``run``: a line of help or a completed word must not wait.
"""
