"""Runs AWS CLI calls in forks of a process that has loaded it: 0.3 s of start are saved on each.

The CLI is the real one, with its own parsing, models, output and errors. Usage: python server.py;
it prints its port, and ends when its stdin is closed.
"""

import os
import socketserver
import sys
import tempfile
import threading

from awscli.clidriver import create_clidriver

DRIVER = create_clidriver()


class Call(socketserver.StreamRequestHandler):
    """Runs one call, in a fork, and sends its exit status and what it printed."""

    def handle(self) -> None:
        os.chdir(self.read_word())
        arguments = [self.read_word() for _ in range(int(self.read_word()))]
        os.environ |= dict(line.split("=", 1) for line in self.read_word().splitlines())
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
            os.dup2(output.fileno(), 1)
            os.dup2(error.fileno(), 2)
            parts = [str(DRIVER.main(arguments)).encode()]
            sys.stdout.flush()
            sys.stderr.flush()
            for file in (output, error):
                file.seek(0)
                parts.append(file.read())
        self.wfile.write(b"".join(part + b"\0" for part in parts))

    def read_word(self) -> str:
        word = bytearray()
        while (byte := self.rfile.read(1)) != b"\0":
            if not byte:
                os._exit(1)  # the client was killed in the middle
            word += byte
        return word.decode()


def end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    # The session keeps the models and rules that it has read, so the forks need not read them.
    for service in ("cloudformation", "dynamodb", "s3", "sts"):
        DRIVER.session.create_client(service, "us-east-1", endpoint_url="http://127.0.0.1:9")
    threading.Thread(target=end_with_parent, daemon=True).start()
    with socketserver.ForkingTCPServer(("127.0.0.1", 0), Call) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
