"""Builds the two Lambda zips from the project's modules and the AWS SDK: `python -m bundle`.

    sdk.py           the SDK that requirements.txt pins, installed
    modules.py       which modules go into a zip: what the handlers import, of an SDK with less in it
    models.py        which of botocore's data: the models of the operations that are called
    certificates.py  the root certificates: those that AWS uses
    check.py         a program that runs a finished zip's content by itself
    __main__.py      both zips, from these

``deploy.sh`` runs it, with nothing but Python's own library. It is not for running in Lambda.

Beside every module stands its byte code, since Lambda's /var/task is read-only: without it every
cold start would compile everything again. The sources are there too. Byte code alone would do and
make a zip a third smaller, but it starts no faster, tracebacks would show no lines, and a function
set to another runtime would not start.

The SDK is changed in a few places for a faster cold start. If an upgrade moves one of them, the
build fails and says which. Nothing is cut on trust: a zip is written only after its check.
"""


class BundleError(Exception):
    """What is to be zipped does not fit together; the message says what and where to look."""
