"""The source tree, for the style tests: where it is, which files are ours, and planted trees to try a check on."""

import contextlib
import os
import pathlib
import tempfile

FOLDERS = ["protocol", "fault", "dataplane", "pagewire", "tools", "bench", "test", "examples"]
PLANTED = "test/style/planted"  # files with faults in them, on purpose


def root():
    """The workspace: in the runfiles its WORKSPACE is a link into it."""
    here = pathlib.Path(os.environ.get("TEST_SRCDIR", ".")) / os.environ.get("TEST_WORKSPACE", "") / "WORKSPACE"
    return pathlib.Path(os.path.realpath(here)).parent


def sources(tree):
    """All .h and .cc files of the house, as sorted paths relative to `tree`."""
    found = []
    for folder in FOLDERS:
        found += [path.relative_to(tree) for path in (tree / folder).rglob("*") if path.suffix in (".h", ".cc")]
    return sorted(path for path in found if not path.as_posix().startswith(PLANTED))


@contextlib.contextmanager
def planted(files):
    """A temporary tree of {path: text}; it is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as folder:
        for name, text in files.items():
            path = pathlib.Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        yield pathlib.Path(folder)
