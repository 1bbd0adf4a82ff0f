"""clients/typescript as people install it: what is built, what its types say, and its React hook."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.client.conftest import Answer, Script, page_with_client
from tests.conftest import eventually

pytestmark = pytest.mark.e2e  # npm installs what the build needs

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILT = (
    "clients/typescript/src/openapi.ts",
    "clients/typescript/dist",
    "clients/typescript/LICENSE",
    "local/page/marked.esm.js",
    "local/page/marked.LICENSE",
    "local/docs/openapi-explorer.min.js",
    "local/docs/openapi-explorer.LICENSE",
)
# How projects find types, and the files of each: ES modules, and CommonJS.
RESOLUTIONS = {
    "node": ("ESNext", ["use.ts"]),
    "node16": ("Node16", ["use.mts", "use.cts"]),
    "bundler": ("ESNext", ["use.ts"]),
}
IMPORTS = {
    "use.ts": "import { ValroClient } from 'valro-client';",
    "use.mts": "import { ValroClient } from 'valro-client';",
    "use.cts": "import valro = require('valro-client'); const { ValroClient } = valro;",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which npm has installed and built everything."""
    if shutil.which("npm") is None:
        pytest.skip("There is no npm. On Debian and Ubuntu: apt-get install nodejs npm")
    copy = tmp_path_factory.mktemp("built")
    ignored = shutil.ignore_patterns("node_modules", "dist", "openapi.ts", "LICENSE")
    shutil.copytree(ROOT / "clients/typescript", copy / "clients/typescript", ignore=ignored)
    for name in ("page", "docs"):
        (copy / "local" / name).mkdir(parents=True)
    for name in ("openapi.yaml", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    folder = copy / "clients/typescript"
    _run(folder, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    _run(folder, "npm", "run", "build")
    return copy


def _run(folder: Path, *command: str) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_what_is_committed_is_what_the_source_builds(built: Path):
    for name in BUILT:
        files = _files(built / name)
        assert files, name
        assert files == _files(ROOT / name), f"{name} is not what `npm run build` makes"


def _files(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return {str(file.relative_to(path)): file.read_bytes() for file in files if not file.is_dir()}


def test_it_is_written_in_what_browsers_of_some_years_ago_understand(built: Path):
    """A syntax that they do not know would be rewritten for them."""
    folder = built / "clients/typescript"

    def written_for(target: str) -> dict[str, bytes]:
        command = ("node_modules/.bin/esbuild", "dist/index.js", "dist/react.js")
        _run(folder, *command, f"--outdir={target}", f"--target={target}")
        return _files(folder / target)

    assert written_for("chrome94,safari15.4,firefox90") == written_for("esnext")


def test_the_types_allow_what_is_right_and_refuse_what_is_wrong(built: Path):
    folder = built / "clients/typescript"
    shutil.copy(HERE / "types.ts", folder)
    config = {
        "extends": "./tsconfig.json",
        "compilerOptions": {"noEmit": True, "rootDir": "."},
        "include": ["types.ts"],
    }
    (folder / "types.json").write_text(json.dumps(config))

    _run(folder, "node_modules/.bin/tsc", "--project", "types.json")


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh project with the package, as npm would publish it, and React."""
    project = tmp_path_factory.mktemp("fresh")
    package = project / "node_modules/valro-client"
    package.mkdir(parents=True)
    source = built / "clients/typescript"
    tarball = _run(source, "npm", "pack", "--silent", "--pack-destination", str(project)).strip()
    _run(project, "tar", "-xzf", tarball, "--strip-components=1", "-C", str(package))
    for name in ("react", "@types/react", "csstype"):
        link = project / "node_modules" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(source / "node_modules" / name)
    return project


def test_the_package_has_its_license_and_nothing_that_it_does_not_need(installed: Path):
    package = installed / "node_modules/valro-client"

    assert {path.name for path in package.iterdir()} == {
        "LICENSE",
        "README.md",
        "dist",
        "package.json",
    }


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_a_fresh_project_finds_its_types(built: Path, installed: Path, resolution: str):
    module, files = RESOLUTIONS[resolution]
    for name in files:
        (installed / name).write_text(
            f"{IMPORTS[name]}\n"
            "import { useTask } from 'valro-client/react';\n"
            "export const use = () => useTask('a').task?.error_code;\n"
            "export const id = new ValroClient('').createTask('x').then(({ id }) => id);\n"
        )
    compiler = str(built / "clients/typescript/node_modules/.bin/tsc")
    options = f"--noEmit --strict --exactOptionalPropertyTypes --target ES2022 --module {module}"

    _run(installed, compiler, *options.split(), "--moduleResolution", resolution, *files)


@pytest.mark.parametrize("kind", ["commonjs", "module"])
def test_node_can_require_and_import_it(installed: Path, kind: str):
    load = {"commonjs": "require({})", "module": "await import({})"}[kind]
    names = "[typeof client.ValroClient, typeof hook.useTask].join()"
    program = (
        f"const client = {load.format(repr('valro-client'))};"
        f"const hook = {load.format(repr('valro-client/react'))}; console.log({names});"
    )

    shown = _run(installed, "node", f"--input-type={kind}", "--eval", program)

    assert shown == "function,function\n"


def test_use_task_survives_strict_mode_another_id_and_unmounting(
    built: Path, tmp_path: Path, api: Script
):
    folder = built / "clients/typescript"
    shutil.copy(HERE / "react_page.js", folder)
    esbuild = ("node_modules/.bin/esbuild", "react_page.js", "--bundle", "--format=iife")
    # Development's React, which mounts everything twice in StrictMode.
    development = '--define:process.env.NODE_ENV="development"'
    _run(folder, *esbuild, development, f"--outfile={tmp_path / 'react_page.js'}")
    running = {"status": "processing", "events": []}
    for task_id in ("a", "b"):
        api.always[f"/base/tasks/{task_id}"] = Answer(
            200, running | {"id": task_id}, {"Retry-After": "1"}
        )
    api.always["/base/tasks/lost"] = Answer(503)
    api.always["/base/tasks/none"] = Answer(
        404, {"error": "Task not found.", "code": "task_not_found"}
    )

    def polls(task_id: str) -> int:
        return sum(path == f"/base/tasks/{task_id}" for _, _, path, _ in api.asked)

    with page_with_client(tmp_path) as page:
        page.add_script_tag(path=str(tmp_path / "react_page.js"))
        page.evaluate("(url) => start(url)", api.url)

        def show(task_id: str | None, text: str) -> None:
            page.evaluate("(id) => show(id)", task_id)
            eventually(lambda: page.inner_text("main"), lambda shown: shown == text)

        show(None, "nothing")
        show("a", "a processing")
        eventually(lambda: polls("a"), lambda count: count >= 4)
        first, last = (
            [at for at, _, path, _ in api.asked if path.endswith("/a")][place] for place in (0, -1)
        )
        assert polls("a") <= 3 + (last - first), "it is watched once, though mounted twice"
        show("b", "b processing")
        polled = polls("a")
        show("lost", "reconnecting")
        show("none", "task_not_found")
        show("b", "b processing")
        page.evaluate("unmount()")
        count = len(api.asked)
        page.wait_for_timeout(1500)

        assert polls("a") == polled
        assert len(api.asked) <= count + 1, "one may have been on its way"
        assert page.evaluate("texts").count("a processing") == 1, "nothing of a was shown after b"
        assert page.evaluate("warnings") == []
