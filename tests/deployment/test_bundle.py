"""What bundle/ puts into a zip: less than the SDK has, and nothing is trusted more or less."""

import shutil
import ssl
import subprocess
import sys
from collections import Counter
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import botocore
import botocore.session
import pytest
import trustme

from bundle import BundleError, certificates, models, modules
from bundle.__main__ import build_all
from tests.servers import Quiet, serving

PACKAGES = Path(botocore.__file__).parents[1]
DATA = PACKAGES / "botocore/data"
SERVICES = ("bedrock-agentcore", "dynamodb", "events", "lambda", "sqs")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The SDK as deploy.sh installs it."""
    folder = tmp_path / "installed"
    folder.mkdir()
    for name in ("botocore", "dateutil", "jmespath", "six.py", "urllib3"):
        (folder / name).symlink_to(PACKAGES / name)
    return folder


# Modules


def test_imports_inside_functions_and_relative_ones_are_found_and_nothing_else(tmp_path: Path):
    for path, source in {
        "handler.py": "def later():\n    import other\n    from package.deep import far\n",
        "other.py": "import json\n",
        "unused.py": "",
        "sdk/package/__init__.py": "",
        "sdk/package/near.py": "",
        "sdk/package/unused.py": "",
        "sdk/package/deep/__init__.py": "",
        "sdk/package/deep/far.py": "from .. import near\nimport nobody_has_it\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    own, of_sdk = modules.imported_by(["handler"], tmp_path, tmp_path / "sdk")
    found = ("__init__", "near", "deep/__init__", "deep/far")
    assert set(own) == {"handler.py", "other.py"}
    assert set(of_sdk) == {f"package/{name}.py" for name in found}


def test_an_import_that_is_bundled_by_nobody_is_refused(tmp_path: Path):
    (tmp_path / "handler.py").write_text("import boto3\n")
    with pytest.raises(BundleError, match=r"handler\.py imports boto3, which is neither"):
        modules.imported_by(["handler"], tmp_path, tmp_path / "sdk")


def test_an_sdk_that_moved_what_is_replaced_fails_the_build_by_name(tmp_path: Path):
    (tmp_path / "installed").mkdir()
    with pytest.raises(BundleError, match=r"has no botocore/docs/__init__\.py"):
        modules.copy_trimmed(tmp_path / "installed", tmp_path / "sdk")


# Models


@pytest.mark.parametrize("service", SERVICES)
def test_operations_are_known_by_the_names_that_botocore_gives_their_methods(service: str):
    operations = botocore.session.get_session().get_service_model(service).operation_names
    calling = " ".join(f"client.{botocore.xform_name(name)}()" for name in operations)
    files = models.service_data(DATA, service, calling)
    (model,) = (file for path, file in files.items() if path.endswith("/service-2.json"))
    assert set(model["operations"]) == set(operations)


def test_a_cut_model_keeps_what_its_operations_need_and_every_exception():
    loader = botocore.session.get_session().get_component("data_loader")
    model = loader.load_service_model("dynamodb", "service-2")
    cut = models.cut_model(model, {"GetItem"})
    assert list(cut["operations"]) == ["GetItem"]
    assert "AttributeValue" in cut["shapes"]
    assert "CreateTableInput" not in cut["shapes"]
    exceptions = {name for name, shape in model["shapes"].items() if shape.get("exception")}
    assert exceptions <= cut["shapes"].keys()


def test_data_that_botocore_no_longer_has_where_it_was_fails_the_build_by_name(tmp_path: Path):
    with pytest.raises(BundleError, match=r"botocore has no .*/_retry\.json"):
        models.client_data(tmp_path, SERVICES, "")
    with pytest.raises(BundleError, match=r"botocore has no data in .*/lambda"):
        models.service_data(tmp_path, "lambda", "invoke")


# Certificates


def test_the_roots_that_aws_uses_are_kept_and_no_others(installed: Path, tmp_path: Path):
    modules.copy_trimmed(installed, tmp_path / "sdk")
    certificates.keep_those_of_aws(tmp_path / "sdk")
    context = ssl.create_default_context(cafile=str(tmp_path / "sdk" / certificates.BUNDLE))
    roots: Any = context.get_ca_certs()
    names = [dict(part for (part,) in root["subject"]) for root in roots]
    organizations = Counter(name["organizationName"].split()[0].strip(",") for name in names)
    assert organizations.keys() == {"Amazon", "DigiCert", "Starfield"}
    common = {name.get("commonName", "") for name in names}
    assert {f"Amazon Root CA {number}" for number in (1, 2, 3, 4)} < common
    assert "Starfield Services Root Certificate Authority - G2" in common


# In the trimmed botocore: a HEAD of an HTTPS URL, which the server answers with 501.
HEAD = """
import sys; sys.path.insert(0, sys.argv[1])
from botocore import awsrequest, httpsession
request = awsrequest.AWSRequest("HEAD", sys.argv[2]).prepare()
print(httpsession.URLLib3Session().send(request).status_code)
"""


@pytest.mark.e2e
def test_a_site_is_trusted_only_if_its_root_is_in_the_bundle(installed: Path, tmp_path: Path):
    sdk = tmp_path / "sdk"
    modules.copy_trimmed(installed, sdk)
    certificates.keep_those_of_aws(sdk)
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = HTTPServer(("127.0.0.1", 0), Quiet)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server) as url:
        ask = [sys.executable, "-ISB", "-c", HEAD, str(sdk), url.replace("http:", "https:")]
        unknown = subprocess.run(ask, env={}, capture_output=True, text=True, timeout=60)
        authority.cert_pem.write_to_path(sdk / certificates.BUNDLE, append=True)
        known = subprocess.run(ask, env={}, capture_output=True, text=True, timeout=60)
    assert "SSLError" in unknown.stderr
    assert known.stdout == "501\n", known.stderr


def test_a_botocore_without_aws_s_roots_fails_the_build_by_name(tmp_path: Path):
    with pytest.raises(BundleError, match=r"cacert\.pem has no root labelled Amazon, DigiCert"):
        certificates.keep_those_of_aws(tmp_path)


# The check of a finished zip

# An SDK that quietly does without a module could quietly do without its security.
HIDDEN = "import importlib\ntry: importlib.import_module('botocore.stub')\nexcept ImportError: 0\n"


@pytest.mark.e2e
def test_whatever_botocore_reads_or_tries_to_import_and_the_zip_lacks_fails_the_build_by_name(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = Path(modules.__file__).parents[1]
    for source in root.glob("*.py"):
        shutil.copy(source, tmp_path)
    shutil.copytree(root / "valro", tmp_path / "valro")
    docs = "botocore/docs/__init__.py"
    for name, wrong, message in (
        ("models.SHARED", models.SHARED[:2], "sdk-default-configuration"),
        ("modules.LEFT_OUT", ("botocore/regions.py",), "botocore.regions is imported, but not in"),
        ("modules.REPLACED", {**modules.REPLACED, docs: HIDDEN}, "not in the zip: botocore.stub"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"bundle.{name}", wrong)
            with pytest.raises(BundleError, match=message):
                build_all(tmp_path, installed, tmp_path / name)
    late = tmp_path / "valro/agent/reader.py"  # which the worker loads once its agent has answered
    late.write_text(f"{late.read_text()}\nfrom botocore.utils import moved\n")
    with pytest.raises(BundleError, match="cannot import name 'moved'"):
        build_all(tmp_path, installed, tmp_path / "late")
    assert not list(tmp_path.glob("*.zip"))
