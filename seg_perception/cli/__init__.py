"""The ``seg-perception`` command: argument parsing only, one file per sub-command."""
