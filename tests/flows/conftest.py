"""A project for each test, and one real Prefect server for all, with its own home and database."""

import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows_toy import Project, answers, end, wait_until


@pytest.fixture(scope="session")
def empty_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("empty"))
    project.create()
    return project


@pytest.fixture
def project(tmp_path: Path, empty_project: Project) -> Project:
    return Project(Path(shutil.copytree(empty_project.root, tmp_path / "project")))


@pytest.fixture
def mark() -> str:
    """A word that a test puts on the command line of processes to find them again."""
    return f"mark{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server on loopback, with its own home and database; every service of it runs."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    os.environ.update(
        PREFECT_HOME=str(home), PREFECT_API_URL=url, PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1"
    )
    with (home / "server.log").open("w") as log:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(command, env=os.environ, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: answers(f"{url}/health") or server.poll() is not None, 180)
        assert server.poll() is None, (home / "server.log").read_text()[-3000:]
        yield url
    finally:
        if server.poll() is None:
            end(server, 10)
