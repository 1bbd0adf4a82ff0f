"""Where everything is: the same at every run, so that a frontend's `.env` is written once.

A port that is taken by somebody else is replaced by any free one, for that run only.
"""

import contextlib
import errno
import shlex
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

AWS_PORT = 4566
PAGE_PORT = 4567
API_ID = "10ca1a91"
"""The id of the API, which is in its address: eight hex digits, as MiniStack makes them."""


def is_free(port: int) -> bool:
    """Tells whether a server could listen on this port of 127.0.0.1; raises OSError if none may."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def free_port() -> int:
    """Returns a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def shell_lines(aws: Mapping[str, str], api_url: str | None, bin_folder: Path) -> str:
    """Returns what makes a POSIX shell talk to the local AWS, and to no other.

    All that the shell knew of AWS before is forgotten: a profile or an endpoint that was left
    would lead to a real account.
    """
    known = "$(env | sed -n 's/^\\(AWS_[A-Za-z0-9_]*\\)=.*/\\1/p')"
    variables = {**aws, **({"API_URL": api_url} if api_url else {})}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    path = f'export PATH="$PATH":{shlex.quote(str(bin_folder))}'
    return "\n".join(
        [
            "# For a shell: every AWS command in it goes to the local AWS of `python -m local`.",
            f'for name in {known}; do unset "$name"; done',
            *exports,
            "# The AWS CLI of the virtual environment, where there is no other.",
            f"command -v aws >/dev/null || {path}",
            "",
        ]
    )


@contextlib.contextmanager
def shell_file(folder: Path, port: int, lines: str) -> Iterator[Path]:
    """Writes the lines where a shell can read them, and removes them again.

    Its name, too, is the same at every run on the usual port; runs side by side have one each.
    """
    folder.mkdir(exist_ok=True)
    path = folder / ("local-aws.sh" if port == AWS_PORT else f"local-aws-{port}.sh")
    path.write_text(lines)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
