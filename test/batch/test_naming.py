"""Names of results: different, in the same folders, and a matter of the inputs alone."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seg_perception.batch.naming import Place, result_names


def place(path, root=None):
    """A file that was given, or one of a folder that was."""
    path = PurePosixPath(path)
    if root is None:
        return Place(path.parent, PurePosixPath(path.name))
    return Place(PurePosixPath(root), path.relative_to(root), is_folder=True)


@pytest.mark.parametrize(
    ('places', 'names'),
    [
        ([place('/a/photo.jpg')], ['photo']),
        ([place('/a/b/1.jpg', '/a'), place('/a/2.jpg', '/a')], ['a/b/1', 'a/2']),
        # Alike but for the suffix.
        ([place('/a/1.jpg'), place('/a/1.png')], ['1.jpg', '1.png']),
        (
            [place('/a/1.jpg'), place('/a/1.png'), place('/a/1.jpg.tif')],
            ['1.jpg', '1.png', '1.jpg.tif'],
        ),
        # Alike but for the folder.
        ([place('/a/1.jpg'), place('/b/1.jpg'), place('/b/2.jpg')], ['a/1', 'b/1', 'b/2']),
        ([place('/x/a/1.jpg', '/x/a'), place('/y/a/1.jpg', '/y/a')], ['x/a/1', 'y/a/1']),
        ([place('/x/a/1.jpg', '/x/a'), place('/y/a/2.jpg', '/y/a')], ['a/1', 'a/2']),
        # The same for file systems that do not tell capital letters from small ones.
        ([place('/a/P.jpg'), place('/a/p.jpg')], ['P.jpg', 'p.jpg-2']),
    ],
)
def test_names_are_short_and_say_where_from(places, names):
    assert result_names(places) == names


def test_long_names_leave_room_for_what_is_added():
    [one, other] = result_names([place(f'/a/{"ä" * 120}{end}.jpg') for end in 'xy'])
    assert one != other
    assert one.startswith('ä' * 80)
    assert len(one.encode()) <= 180


# Few different parts, so that they collide.
PARTS = st.sampled_from(['a', 'A', 'b', 'é', 'e\u0301', 'a.jpg', 'x' * 200, 'x' * 199 + 'y'])
NAMES = st.sampled_from(
    ['1.jpg', '1.JPG', '1.png', '1.jpg.png', '1', '.1.jpg', '1.jpg-2.png', 'é.jpg']
)


@st.composite
def some_places(draw):
    files = draw(st.lists(st.tuples(st.lists(PARTS, max_size=3), NAMES), min_size=1, max_size=12))
    found = {}
    for folders, name in files:
        path = PurePosixPath('/', *folders, name)
        depth = draw(st.integers(0, len(folders)))
        root = PurePosixPath('/', *folders[:depth]) if draw(st.booleans()) else None
        found.setdefault(path, place(path, root))
    return list(found.values())


@settings(max_examples=300)
@given(places=some_places(), data=st.data())
@example(places=[place('/1.jpg'), place('/a/1.jpg', '/')], data=None)
def test_no_two_inputs_share_a_name(places, data):
    names = result_names(places)
    folded = [unicodedata.normalize('NFC', name).casefold() for name in names]
    assert len(set(folded)) == len(names)
    for where, name in zip(places, names, strict=True):
        parts = PurePosixPath(name).parts
        assert not name.startswith('/')
        assert '..' not in parts
        assert all(len(part.encode()) <= 200 for part in parts)
        # The folders below the one that was given are kept.
        kept = where.relative.parent.parts
        assert len(parts) > len(kept)
        for mine, theirs in zip(parts[len(parts) - 1 - len(kept) : -1], kept, strict=True):
            assert mine == theirs or len(theirs) > 150
        assert parts[-1].startswith(where.relative.stem[:100])
    if data is not None:
        order = data.draw(st.permutations(range(len(places))))
        again = result_names([places[i] for i in order])
        assert again == [names[i] for i in order]
