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


def listen(port: int = 0) -> socket.socket:
    """Returns a socket that listens on this port of 127.0.0.1, by default on any that is free.

    Servers are given such a socket and not a port: a port that was free a moment ago may by then
    be another run's, whose answers would be taken for the server's own.
    """
    return socket.create_server(("127.0.0.1", port), backlog=256)


def listen_nearby(port: int) -> socket.socket:
    """The same, or on any free port if somebody else listens on this one."""
    try:
        return listen(port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return listen()


def free_port() -> int:
    """Returns a port that nobody listens on just now."""
    with listen() as server:
        return port_of(server)


def port_of(listener: socket.socket) -> int:
    """Returns the port that a socket listens on."""
    port: int = listener.getsockname()[1]
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
