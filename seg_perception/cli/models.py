"""``seg-perception models``: what the catalog offers."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'models',
        help='list the models of the catalog, or show one',
        description='Lists the models that can be given as model:=NAME, or shows one in full.',
    )
    parser.add_argument('name', nargs='?', help='a catalog name, model card or model file')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the list or one model."""
    from seg_perception.models import DEFAULT_MODEL, list_models, resolve

    if not arguments.name:
        names = list_models()
        width = max(map(len, names))
        for name in names:
            listed = resolve(name)
            mark = ' (default)' if name == DEFAULT_MODEL else ''
            print(
                f'{name:{width}}  {len(listed.classes):3} classes  {listed.licence:12}  '
                f'{listed.summary}{mark}'
            )
        return 0
    card = resolve(arguments.name)
    height, width = card.input.size_hw
    for key, value in {
        'name': card.name,
        'summary': card.summary,
        'architecture': card.architecture or f"the file's own graph ({card.weights.format})",
        'weights': card.weights.uri,
        'sha256': card.weights.sha256 or f'{card.weights.sha256_prefix}…',
        'input': f'{width}x{height} (width x height), {card.input.resize}',
        'output': card.output.kind,
        'classes': ', '.join(card.classes.names),
        'licence': card.licence,
        'source': card.source,
        **{f'measured {name}': value for name, value in card.measurements.items()},
    }.items():
        print(f'{key}: {value}')
    return 0
