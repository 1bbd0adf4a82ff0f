"""Runs AWS CLI calls in forks of a process that has loaded it: 0.3 s of start are saved on each.

The CLI is the real one, with its own parsing, models, output and errors. Usage: python server.py;
it prints its port, and ends when its stdin is closed.
"""

import os
import socket
import sys
import tempfile
import threading
from io import BufferedReader

from awscli.clidriver import CLIDriver, create_clidriver

REGION = "us-east-1"
SERVICES = ["cloudformation", "dynamodb", "s3", "sts"]


def main() -> None:
    """Serves calls until nobody holds our stdin any more."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    driver = create_clidriver()
    # The session keeps the models and rules that it has read, so the forks need not read them.
    for service in SERVICES:
        driver.session.create_client(service, REGION, endpoint_url="http://127.0.0.1:9")
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        reap()
        if os.fork() == 0:
            serve(driver, connection)
        connection.close()


def end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def serve(driver: CLIDriver, connection: socket.socket) -> None:
    """Runs one call and sends its exit status and what it printed, then ends this process."""
    words = connection.makefile("rb")
    folder = read_word(words)
    arguments = [read_word(words) for _ in range(int(read_word(words)))]
    for line in read_word(words).splitlines():
        name, _, value = line.partition("=")
        os.environ[name] = value
    os.chdir(folder)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        os.dup2(output.fileno(), 1)
        os.dup2(error.fileno(), 2)
        status = driver.main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        parts = [str(status).encode()]
        for file in (output, error):
            file.seek(0)
            parts.append(file.read())
    connection.sendall(b"".join(part + b"\0" for part in parts))
    os._exit(0)


def read_word(words: BufferedReader) -> str:
    word = bytearray()
    while (byte := words.read(1)) != b"\0":
        if not byte:
            os._exit(1)  # the client was killed in the middle
        word += byte
    return word.decode()


if __name__ == "__main__":
    main()
