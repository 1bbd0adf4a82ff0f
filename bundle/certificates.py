"""The root certificates in a folder, so that a connection reads only the one that it needs.

For every new connection botocore reads all root certificates, more than a hundred: half of its
work. OpenSSL can also take them from a folder in which each file's name is a hash of the root's
name, and then reads the one that it needs. The same roots are trusted.

The hash is made of the name's DER, for which this has a small reader of its own. Python's library
gives a certificate's name only decoded, without the object identifiers; ``openssl rehash`` and the
library cryptography are not on every machine that builds.
"""

import hashlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

from bundle import BundleError

BUNDLE = "botocore/cacert.pem"
FOLDER = "botocore/cacert"

PATCHED = "botocore/httpsession.py"
OLD = "            conn.ca_certs = get_cert_path(verify)\n"
NEW = f"""\
{OLD}\
            if conn.ca_certs == DEFAULT_CA_BUNDLE:
                # Changed: bundle/ has put the same roots into a folder, one in each file.
                conn.ca_certs = None
                conn.ca_cert_dir = DEFAULT_CA_BUNDLE.removesuffix('.pem')
"""

# The tags of DER, in which certificates are written.
OID, UTF8, SEQUENCE, SET, VERSION = 0x06, 0x0C, 0x30, 0x31, 0xA0
# The kinds of text in certificates' names, by their tags.
ENCODINGS = {UTF8: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}


def use_folder(sdk: Path) -> None:
    """Gives a copy of botocore the folder of its roots, and the lines that make it use that."""
    if not (sdk / BUNDLE).is_file():
        raise BundleError(f"botocore has no {BUNDLE}, which TLS needs: has it moved?")
    (sdk / FOLDER).mkdir()
    for name, root in roots_by_hash((sdk / BUNDLE).read_text(encoding="utf-8")).items():
        (sdk / FOLDER / name).write_bytes(root)
    source = (sdk / PATCHED).read_text(encoding="utf-8") if (sdk / PATCHED).is_file() else ""
    if source.count(OLD) != 1:
        raise BundleError(
            f"{PATCHED} no longer has the line {OLD.strip()!r}: see how botocore now chooses the"
            f" root certificates, and correct {Path(__file__).name}."
        )
    (sdk / PATCHED).write_text(source.replace(OLD, NEW), encoding="utf-8")


def roots_by_hash(bundle: str) -> dict[str, bytes]:
    """Returns the certificates of a PEM file by the names that OpenSSL looks for in a folder."""
    roots: dict[str, bytes] = {}
    pattern = "-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----"
    for pem in re.findall(pattern, bundle, re.DOTALL):
        name = subject_hash(ssl.PEM_cert_to_DER_cert(pem))
        number = sum(other.startswith(f"{name}.") for other in roots)
        roots[f"{name}.{number}"] = f"{pem}\n".encode()
    return roots


def subject_hash(certificate: bytes) -> str:
    """Returns what ``openssl x509 -subject_hash`` prints for a DER certificate.

    It is the SHA-1 of the subject with every text as UTF-8, in lower case, its spaces collapsed
    (X509_NAME_hash_ex and x509_name_canon in OpenSSL, the same since 1.0.0).
    """
    ((_, whole),) = parts(certificate)
    to_be_signed = next(parts(whole))[1]
    # The version (absent from the first), serial, algorithm, issuer, validity, subject.
    fields = [content for tag, content in parts(to_be_signed) if tag != VERSION]
    canonical = b""
    for _, relative_name in parts(fields[4]):
        attributes = []
        for _, attribute in parts(relative_name):
            (_, kind), (tag, value) = parts(attribute)
            if tag in ENCODINGS:
                text = value.decode(ENCODINGS[tag]).encode()
                # bytes.lower() and bytes.split() know ASCII only, as OpenSSL does here.
                tag, value = UTF8, b" ".join(text.split()).lower()
            attributes.append(part(SEQUENCE, part(OID, kind) + part(tag, value)))
        canonical += part(SET, b"".join(sorted(attributes)))
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the tags and contents that stand one after another in DER."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        yield tag, data[at : at + length]
        at += length


def part(tag: int, content: bytes) -> bytes:
    """Returns a tag and its content in DER."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content
