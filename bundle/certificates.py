"""The root certificates of AWS's endpoints, from botocore's list of more than a hundred.

For every new connection botocore reads its whole list, which is half of the connection's work. AWS
names the roots of its own authority, one of them Starfield's, and has used DigiCert's before and
elsewhere. Of these all are kept, so that AWS may change to another one of them.

    https://www.amazontrust.com/repository/
    https://aws.amazon.com/blogs/security/how-to-prepare-for-aws-move-to-its-own-certificate-authority/
"""

import re
from pathlib import Path

from bundle import BundleError

BUNDLE = "botocore/cacert.pem"
AUTHORITIES = ("Amazon", "DigiCert", "Starfield")


def keep_those_of_aws(sdk: Path) -> None:
    """Leaves in a copy of botocore only the roots that AWS uses, which their labels tell."""
    bundle = sdk / BUNDLE
    text = bundle.read_text(encoding="utf-8") if bundle.is_file() else ""
    labelled = re.findall(r'(# Label: "(\w+).*?-----END CERTIFICATE-----\n)', text, re.DOTALL)
    if missing := set(AUTHORITIES).difference(authority for _, authority in labelled):
        names = ", ".join(sorted(missing))
        raise BundleError(f"{BUNDLE} has no root labelled {names}, which AWS's TLS needs.")
    roots = [root for root, authority in labelled if authority in AUTHORITIES]
    bundle.write_text("\n".join(roots), encoding="utf-8")
