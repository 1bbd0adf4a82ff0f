"""Environments of other people's frameworks, made once in build/frameworks and kept out of .venv.

Their versions contradict the project's own, and each other's.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SDK = "bedrock-agentcore==1.25.0 httpx2"
LANGGRAPH = "langgraph==1.2.24 langchain==1.5.2"
REQUIREMENTS = {
    "ag_ui": "ag-ui-protocol==1.0.0 ag-ui-strands==1.0.2 strands-agents==1.62.0",
    "ag_ui_langgraph": f"{LANGGRAPH} ag-ui-langgraph==0.0.47 fastapi==0.165.0",
    "langgraph": LANGGRAPH,
    "openai": "openai-agents==0.24.0",
    "pydanticai": "pydantic-ai-slim[ag-ui]==2.68.0",
    "adk": "google-adk==2.13.0",
    "crewai": "crewai==1.15.30",
    "claude": "claude-agent-sdk==0.2.189",
    "llamaindex": "llama-index-core==0.14.25",
    "microsoft": "agent-framework-core==1.23.0",
    "autogen": "autogen-agentchat==0.7.5 autogen-ext==0.7.5",
}
PACKAGES = "bedrock-agentcore@0.4.4 @strands-agents/sdk@1.16.0 ai@6.0.326 zod"  # npm's


def python(*frameworks: str) -> str:
    """The interpreter of an environment with AWS's SDK and these frameworks."""
    wanted = " ".join([SDK, *(REQUIREMENTS[one] for one in frameworks)])

    def install(folder: Path) -> None:
        run([sys.executable, "-m", "venv", "--without-pip", str(folder)], ROOT)
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"]
        run([*pip, "--quiet", "--no-compile", *wanted.split()], ROOT)

    return str(_made(wanted + sys.version, install) / "bin/python")


def node(packages: str = PACKAGES) -> Path:
    """A folder in which packages of npm's are installed."""

    def install(folder: Path) -> None:
        folder.mkdir()
        run(["npm", "install", "--no-audit", "--no-fund", *packages.split()], folder)

    return _made(packages, install)


def _made(contents: str, install: Callable[[Path], None]) -> Path:
    """The folder for these contents, filled if need be; another process that is at it is waited for."""
    digest = hashlib.sha256(contents.encode()).hexdigest()[:12]
    folder = ROOT / "build/frameworks" / digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
            (folder / "complete").touch()
    return folder


def run(command: list[str], folder: Path) -> None:
    """Runs a command; what it says is in the error if it fails."""
    env = os.environ | {"PYTHONHASHSEED": "0"}  # the order of sets in reprs
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")
