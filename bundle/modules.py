"""Which modules go into a zip: the handlers' own and those of the SDK that they import."""

import shutil
import sys
from collections.abc import Iterable
from modulefinder import ModuleFinder
from pathlib import Path

from bundle import BundleError

# Parts of the SDK that the functions never use.
LEFT_OUT = (
    "botocore/data",  # the models of 400 services: models.py has the few that are called
    "dateutil/easter.py",  # Easter's date, by recurrence rules only
    "dateutil/rrule.py",  # recurrence rules: botocore reads times, it repeats none
    "dateutil/tz/win.py",  # Windows
    "dateutil/zoneinfo",  # time zones by name; botocore knows UTC and offsets
    "urllib3/contrib",  # SOCKS proxies, PyOpenSSL, browsers
)

# Modules that botocore imports and the functions never use, and what they get in their place. They
# are a tenth of a cold start.
REPLACED = {
    # The help texts of clients, which drag in an HTML parser and all that can write documentation.
    "botocore/docs/__init__.py": "# Changed: bundle/ has left out the documentation.\n",
    "botocore/docs/docstring.py": '''\
# Changed: bundle/ has left out the documentation.
class NoDocstring(str):
    """Stands for a help text."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)


ClientMethodDocstring = PaginatorDocstring = WaiterDocstring = NoDocstring
''',
    # botocore speaks HTTP/1.1; asking whether h2 is installed loads importlib.metadata.
    "urllib3/http2/__init__.py": "# Changed: bundle/ has left out the switch to HTTP/2.\n",
}


def copy_trimmed(installed: Path, sdk: Path) -> None:
    """Copies an installed SDK without what is LEFT_OUT, and with what is REPLACED."""

    def left_out(place: str, names: list[str]) -> list[str]:
        folder = Path(place).relative_to(installed)
        return [name for name in names if (folder / name).as_posix() in LEFT_OUT]

    shutil.copytree(installed, sdk, ignore=left_out)
    for path, source in REPLACED.items():
        if not (sdk / path).is_file():
            raise BundleError(f"The SDK has no {path}, which bundle/ changes: see what moved.")
        (sdk / path).write_text(source, encoding="utf-8")


def imported_by(
    handlers: Iterable[str], sources: Path, sdk: Path
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Returns the project's and the SDK's modules that handlers need, by their paths in a zip.

    Imports inside functions count, so that nothing that could be reached is missing.
    """
    finder = ModuleFinder(path=[str(sources), str(sdk)])
    for handler in handlers:
        finder.import_hook(handler)
    found = (getattr(module, "__file__", None) for module in finder.modules.values())
    files = [Path(file) for file in found if file]
    of_sdk = {path.relative_to(sdk).as_posix(): path for path in files if path.is_relative_to(sdk)}
    own = {path.relative_to(sources).as_posix(): path for path in files if sdk not in path.parents}
    for name, importers in finder.badmodules.items():
        if (path := sources / f"{name.replace('.', '/')}.py").is_file():
            compile(path.read_bytes(), path, "exec")  # it was found, and raises SyntaxError
        top = name.partition(".")[0]
        if top not in finder.modules and top not in sys.stdlib_module_names:
            _refuse_unknown(top, importers, own)
    return own, of_sdk


def _refuse_unknown(top: str, importers: Iterable[str], own: Iterable[str]) -> None:
    """Stops at a module that was not found, unless only the SDK asks: it can do without some."""
    for importer in importers:
        if f"{importer.replace('.', '/')}.py" in own:
            raise BundleError(
                f"{importer}.py imports {top}, which is neither a module of this project, nor"
                " Python's own, nor in requirements.txt."
            )
