"""The same client on a real Docker Engine: what it lists, executes, scales and removes are real containers."""

import base64
import json
import os
import subprocess

import cattle
import pytest

from conftest import BIN, Process, Server, wait_for
from websocket import WebSocket

TESTBED = os.environ.get("REMUDA_TESTBED_BIN", "target/debug/remuda-testbed")
IMAGE = "docker:remuda/testbox:1"


@pytest.fixture(scope="module")
def bed():
    """One host with a Docker daemon of its own; its keeper removes it when it is told to or killed."""
    keeper = subprocess.Popen([TESTBED, "keep", "--hosts", "1", "--images"], stdout=subprocess.PIPE, text=True)
    try:
        word, _, directory = keeper.stdout.readline().strip().partition(" ")
        assert word == "ready", "the testbed did not start"
        with open(os.path.join(directory, "kept.json")) as kept:
            yield json.load(kept)[0]
    finally:
        keeper.kill()
        keeper.wait()
        wait_for("the testbed to go", lambda: not os.path.exists(directory))


@pytest.fixture(scope="module")
def docker(bed):
    def run(*argv):
        argv = ["docker", "--host", "unix://" + bed["dockerSocket"], *argv]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    return run


@pytest.fixture(scope="module")
def client(bed, tmp_path_factory):
    directory = tmp_path_factory.mktemp("docker")
    gateway = bed["address"].rsplit(".", 1)[0] + ".1"
    server = Server(directory, listen=gateway)
    agent = None
    try:
        access, secret = server.wait().admin_keys()
        admin = cattle.Client(url=server.url + "/v1", access_key=access, secret_key=secret)
        project = admin.list_project().data[0]
        url = "%s/v1/projects/%s/schemas" % (server.url, project.id)
        client = cattle.Client(url=url, access_key=access, secret_key=secret)
        token = client.wait_success(client.create_registration_token())
        agent = Process(
            directory / "agent.log", "sh", *bed["enter"], BIN, "agent", "--url", server.url, "--token", token.token,
            "--docker-host", "unix://" + bed["dockerSocket"], "--state-dir", directory / "agent",
        )

        def joined():
            agent.check()
            return client.list_host(state="active").data

        wait_for("the host", joined)
        yield client
    finally:
        for process in (agent, server):
            if process is not None:
                process.stop()


@pytest.fixture
def container(client, request):
    made = client.create_container(
        name=request.node.name.replace("_", "-"), imageUuid=IMAGE, command=["rest"], networkMode="bridge",
        environment={"WHO": "cattle"}, labels={"from": "tests"},
    )
    made = client.wait_success(made)
    yield made
    client.wait_success(client.delete(made))


def test_a_container_is_a_real_one(client, docker, container):
    assert container.state == "running"
    facts = json.loads(docker("inspect", container.externalId))[0]
    assert facts["State"]["Running"]
    assert "WHO=cattle" in facts["Config"]["Env"]
    assert facts["Config"]["Labels"]["from"] == "tests"
    container = client.wait_success(container.stop(timeout=5))
    assert not json.loads(docker("inspect", container.externalId))[0]["State"]["Running"]
    container = client.wait_success(container.start())
    assert json.loads(docker("inspect", container.externalId))[0]["State"]["Running"]


def test_commands_are_executed_in_it(client, container):
    access = container.execute(
        command=["/bin/sh", "-c", "echo $((6 * 7)) for $WHO"], attachStdin=True, attachStdout=True, tty=True
    )
    stream = WebSocket("%s?token=%s" % (access.url, access.token))
    said = b"".join(base64.b64decode(message) for message in stream)
    assert b"42 for cattle" in said

    access = container.execute(command=["/bin/sh"], attachStdin=True, attachStdout=True, tty=True)
    stream = WebSocket("%s?token=%s" % (access.url, access.token))
    stream.send(base64.b64encode(b"echo typed-$((1 + 1)); exit\n").decode())
    said = b"".join(base64.b64decode(message) for message in stream)
    assert b"typed-2" in said


def test_its_output_is_read(client, docker, request):
    made = client.create_container(
        name=request.node.name.replace("_", "-"), imageUuid=IMAGE, networkMode="none",
        command=["sh", "-c", "echo out; echo err >&2; rest"],
    )
    container = client.wait_success(made)
    try:
        def read():
            access = container.logs(follow=False, lines=10)
            stream = WebSocket("%s?token=%s" % (access.url, access.token))
            return sorted(message.decode().split(" ", 1)[0] + message.decode().rsplit(" ", 1)[1].strip() for message in stream)

        wait_for("both lines", lambda: read() == ["01out", "02err"])
    finally:
        client.wait_success(client.delete(container))


def test_what_plain_docker_runs_appears(client, docker):
    docker("run", "-d", "--name", "by-hand", "remuda/testbox:1", "rest")

    def found():
        return next((c for c in client.list_container(name="by-hand", removed_null=True) if c.state == "running"), None)

    container = wait_for("the container", found)
    assert container.nativeContainer
    container = client.wait_success(container.stop(timeout=5))
    assert docker("inspect", "-f", "{{.State.Running}}", "by-hand") == "false\n"
    client.wait_success(client.delete(container))
    wait_for("Docker to agree", lambda: "by-hand" not in docker("ps", "--format", "{{.Names}}"))


def test_a_service_scales_and_goes(client, docker):
    stack = client.wait_success(client.create_environment(name="real"))
    service = client.wait_success(client.create_service(
        name="web", environmentId=stack.id, scale=2, launchConfig={"imageUuid": IMAGE},
    ))
    service = client.wait_success(service.activate())

    def running():
        return sorted(docker("ps", "--format", "{{.Names}}", "--filter", "label=io.rancher.stack.name=real").split())

    assert len(running()) == 2
    service = client.wait_success(client.update(service, scale=3))
    assert len(running()) == 3
    service = client.wait_success(client.update(service, scale=1))
    wait_for("Docker to agree", lambda: len(running()) == 1)
    client.wait_success(client.delete(stack))
    wait_for("Docker to agree", lambda: not docker("ps", "-q", "--filter", "label=io.rancher.stack.name=real"))
