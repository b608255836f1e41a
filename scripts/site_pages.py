"""Makes one site of docs/ and of the files of the checkout that its pages link to.

A hook of MkDocs, named in ``mkdocs.yml``. Pages link to files as they lie in the checkout
(``../config/rgbd.rviz``), which is right where they are read there; the site has these files
under ``repository/``, Markdown as pages and all else as it is. A link to a file that is not there
stays as it is, and MkDocs complains.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = 'docs'
REPOSITORY = 'repository'
# [text](target#anchor) and ![text](target); what has a scheme is somebody else's.
LINK = re.compile(r'(?<=\]\()(?!\w+:|/|#)([^)\s#]+)')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what pages link to outside of docs/, and what is linked from there."""
    to_read = [file.src_uri for file in files.documentation_pages()]
    while to_read:
        source = checkout_path(to_read.pop())
        for target in LINK.findall((ROOT / source).read_text(encoding='utf-8')):
            path = resolve(source, target)
            uri = site_uri(path)
            if path.startswith(f'{DOCS}/') or files.get_file_from_path(uri):
                continue
            if not (ROOT / path).is_file():
                continue
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
            if path.endswith('.md'):
                to_read.append(uri)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lets links to files of the checkout lead to where the site has them."""
    here = page.file.src_uri

    def to_site(link: re.Match[str]) -> str:
        uri = site_uri(resolve(checkout_path(here), link[1]))
        if files.get_file_from_path(uri) is None:
            return link[1]
        return posixpath.relpath(uri, posixpath.dirname(here) or '.')

    return LINK.sub(to_site, markdown)


def checkout_path(uri: str) -> str:
    """Where the checkout has a file of the site."""
    first, _, rest = uri.partition('/')
    return rest if first == REPOSITORY else f'{DOCS}/{uri}'


def site_uri(path: str) -> str:
    """Where the site has a file of the checkout."""
    return path.removeprefix(f'{DOCS}/') if path.startswith(f'{DOCS}/') else f'{REPOSITORY}/{path}'


def resolve(source: str, target: str) -> str:
    """The path in the checkout that a link in one of its files means."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
