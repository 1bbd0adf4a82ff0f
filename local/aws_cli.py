"""Runs AWS CLI calls in forks of a process that has loaded it, which saves most of a call's time.

The CLI is the real one, with its own parsing, models, output and errors, and every call has its
caller's files, folder and environment. bin/aws sends them here, through a socket that only this
user can reach.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from awscli.clidriver import create_clidriver
from awscli.customizations.overridesslcommonname import update_endpoint_url

from local import REGION

SERVICES = ("bedrock-agentcore-control", "cloudformation", "dynamodb", "s3", "sts")


def serve() -> None:
    """Serves in the current folder until it is killed."""
    driver = create_clidriver()
    # By itself version 1 sends calls to SQS to its real address, whatever the environment says.
    driver.session.unregister("before-building-argument-table-parser", update_endpoint_url)
    # The session keeps the models and rules that it has read, so the forks need not read them. It
    # would keep credentials too, which are the caller's to say.
    nobody = {"aws_access_key_id": "", "aws_secret_access_key": ""}
    for service in SERVICES:
        driver.session.create_client(service, REGION, endpoint_url="http://127.0.0.1:9", **nobody)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a fork
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("starting")
        server.listen()
        Path("starting").rename("socket")
        while True:
            connection, _ = server.accept()
            with connection:
                if os.fork() == 0:
                    _answer(driver, connection)


def _answer(driver: Any, connection: socket.socket) -> None:
    """Runs one call, in a fork, and sends its exit status."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        arguments, folder, environment = json.load(connection.makefile("rb"))
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        status = driver.main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        connection.send(bytes([status]))
        os._exit(0)
