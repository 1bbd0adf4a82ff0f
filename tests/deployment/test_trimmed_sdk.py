"""What build_zips.py changes in the SDK: less is loaded, and nothing is trusted more or less."""

import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import botocore.httpsession
import pytest

import build_zips
from benchmarks.servers import make_certificates

BUNDLE = Path(botocore.httpsession.where())
PEM = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def test_every_root_stands_under_the_name_that_openssl_looks_for() -> None:
    """OpenSSL finds each certificate by its issuer in a folder that has nothing else."""
    openssl = shutil.which("openssl")
    assert openssl, "the openssl command is needed"
    roots = build_zips.roots_by_hash(BUNDLE.read_text())
    assert len(roots) == len(PEM.findall(BUNDLE.read_text())) > 100
    for name, pem in roots.items():
        said = subprocess.run(
            [openssl, "x509", "-noout", "-subject_hash"], input=pem, capture_output=True, check=True
        )
        assert said.stdout.decode().strip() == name.partition(".")[0]


def test_two_roots_of_one_name_are_both_kept() -> None:
    pem = PEM.findall(BUNDLE.read_text())[0]
    names = list(build_zips.roots_by_hash(pem + pem))
    assert [name.partition(".")[2] for name in names] == ["0", "1"]


# In the patched session of a zip's botocore: a GET of an HTTPS URL, and what came of it.
GET = """
import sys
sys.path[:0] = [sys.argv[1]]
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
try:
    print(URLLib3Session().send(AWSRequest("GET", sys.argv[2]).prepare()).status_code)
except Exception as error:
    print(type(error).__name__)
"""


@pytest.fixture
def patched(tmp_path: Path) -> Path:
    """A copy of botocore as a zip has it, which also trusts the test's root."""
    folder = tmp_path / "task"
    for package in ("botocore", "dateutil", "jmespath", "urllib3"):
        source = Path(sys.modules["botocore"].__path__[0]).parent / package
        shutil.copytree(source, folder / package, ignore=shutil.ignore_patterns("data", "*.pyc"))
    shutil.copy(Path(sys.modules["botocore"].__path__[0]).parent / "six.py", folder)
    for name in (*build_zips.REPLACED, build_zips.ROOTS_PATCH[0]):
        path = folder / name
        path.write_bytes(build_zips.changed(name, path.read_bytes()))
    (folder / "botocore/cacert").mkdir()
    for name, root in build_zips.roots_by_hash(BUNDLE.read_text()).items():
        (folder / "botocore/cacert" / name).write_bytes(root)
    return folder


@pytest.fixture
def site(tmp_path: Path) -> tuple[str, Path]:
    """An HTTPS site, and the root that vouches for it."""
    certificates = tmp_path / "certificates"
    make_certificates(certificates)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "chain.pem", certificates / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def answer_once() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                try:
                    with context.wrap_socket(connection, server_side=True) as secure:
                        secure.recv(65_536)
                        secure.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                except ssl.SSLError:
                    return

    threading.Thread(target=answer_once, daemon=True).start()
    return f"https://127.0.0.1:{listener.getsockname()[1]}/", certificates / "root.pem"


def get(folder: Path, url: str) -> str:
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", GET, str(folder), url],
        env={},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.e2e
def test_a_site_whose_root_is_in_the_folder_is_trusted(
    patched: Path, site: tuple[str, Path]
) -> None:
    url, root = site
    for name, pem in build_zips.roots_by_hash(root.read_text()).items():
        (patched / "botocore/cacert" / name).write_bytes(pem)
    assert get(patched, url) == "204"


@pytest.mark.e2e
def test_a_site_whose_root_is_unknown_is_refused(patched: Path, site: tuple[str, Path]) -> None:
    url, _ = site
    assert get(patched, url) == "SSLError"


def test_a_botocore_that_reads_its_roots_otherwise_fails_the_build_by_name() -> None:
    path, old, _ = build_zips.ROOTS_PATCH
    with pytest.raises(build_zips.BuildError, match=r"httpsession\.py no longer has the line"):
        build_zips.changed(path, old.replace("conn", "pool").encode())


def test_an_sdk_that_moved_what_is_replaced_fails_the_build_by_name(tmp_path: Path) -> None:
    with pytest.raises(build_zips.BuildError, match=r"has no botocore/docs/__init__\.py"):
        build_zips.Library(tmp_path, tmp_path).refuse_moved()
