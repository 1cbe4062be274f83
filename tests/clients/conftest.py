"""A server with simulated hosts for the whole run, and the clients that tests drive it with.

The server is started the way a person would, access control on; its first admin key comes from the file it writes. Every
project and key beyond that is made through the clients under test.
"""

import itertools
import os
import signal
import socket
import subprocess
import time
import urllib.request

import cattle
import gdapi
import pytest

BIN = os.environ.get("REMUDA_BIN", "target/debug/remuda")
N_HOSTS = 3
DEADLINE = 60


class Process:
    """A program that runs beside the tests, with its output in a file."""

    def __init__(self, log, *argv):
        self.log = log
        self.argv = [str(arg) for arg in argv]
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def check(self):
        code = self.popen.poll()
        assert code is None, "%s ended with %s:\n%s" % (" ".join(self.argv), code, self.tail())

    def tail(self):
        with open(self.log, errors="replace") as out:
            return "".join(out.readlines()[-40:])

    def stop(self):
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(15)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
                raise AssertionError("%s did not end on TERM:\n%s" % (self.argv[:2], self.tail()))


class Server(Process):
    def __init__(self, directory, *options, listen="127.0.0.1"):
        self.port = free_port()
        self.url = "http://%s:%s" % (listen, self.port)
        self.data = directory / "data"
        super().__init__(
            directory / "server.log", BIN, "server", *options,
            "--listen", "%s:%s" % (listen, self.port), "--data-dir", self.data,
        )

    def wait(self):
        def answers():
            self.check()
            with urllib.request.urlopen(self.url + "/ping", timeout=5) as answer:
                return answer.status == 200

        wait_for("the server to answer", answers)
        return self

    def admin_keys(self):
        """The key that the first start made, from the file it left for programs."""
        def read():
            lines = (self.data / "admin.env").read_text().splitlines()
            return dict(line.removeprefix("export ").split("=", 1) for line in lines if "=" in line)

        values = wait_for("admin.env", read)
        return values["REMUDA_ACCESS_KEY"].strip("'\""), values["REMUDA_SECRET_KEY"].strip("'\"")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, probe, deadline=DEADLINE):
    """Calls `probe` until it gives something true; connection errors count as not yet."""
    end = time.monotonic() + deadline
    while True:
        reason = None
        try:
            value = probe()
            if value:
                return value
        except (OSError, KeyError) as error:
            reason = error
        assert time.monotonic() < end, "waited %s s for %s: %s" % (deadline, what, reason)
        time.sleep(0.05)


class Failure:
    """What `refused` caught: the error resource."""

    def __init__(self):
        self.error = None


class refused:
    """`with refused(422, "NotUnique", "name"):` the call inside must fail exactly so."""

    def __init__(self, status, code=None, field=None):
        self.expected = (status, code, field)

    def __enter__(self):
        self.failure = Failure()
        return self.failure

    def __exit__(self, kind, error, trace):
        status, code, field = self.expected
        assert kind is not None, "the call succeeded; expected %s %s %s" % self.expected
        if not issubclass(kind, gdapi.ApiError):
            return False
        found = error.error
        self.failure.error = found
        assert found.type == "error"
        assert found.status == status, found
        if code is not None:
            assert found.code == code, found
        if field is not None:
            assert found.fieldName == field, found
        return True


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), "--simulator")
    try:
        yield server.wait()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def admin(server):
    access, secret = server.admin_keys()
    return cattle.Client(url=server.url + "/v1", access_key=access, secret_key=secret)


@pytest.fixture(scope="session")
def make_project(server, admin):
    """A function that makes a project and gives a client holding a key of it."""

    def make(name=None):
        if name is None:
            project = next(project for project in admin.list_project() if project.name == "Default")
        else:
            project = admin.wait_success(admin.create_project(name=name))
        access, secret = server.admin_keys()
        scoped = cattle.Client(
            url="%s/v1/projects/%s/schemas" % (server.url, project.id), access_key=access, secret_key=secret
        )
        key = scoped.wait_success(key_of := scoped.create_api_key(name="clients"))
        assert key.secretValue is None, "the secret is shown once"
        client = cattle.Client(url=server.url + "/v1", access_key=key_of.publicValue, secret_key=key_of.secretValue)
        client.project_id = project.id
        return client

    return make


@pytest.fixture(scope="session")
def client(make_project):
    """The client most tests use: an environment key of the project that exists from the start."""
    return make_project()


@pytest.fixture(scope="session")
def hosts(server, client, tmp_path_factory):
    """Simulated hosts, registered as real ones are."""
    agents = add_hosts(server, client, tmp_path_factory.mktemp("hosts"), N_HOSTS)
    try:
        yield wait_for_hosts(client, N_HOSTS, agents)
    finally:
        agents.stop()


def add_hosts(server, client, directory, n_hosts):
    token = client.wait_success(client.create_registration_token())
    return Process(
        directory / "agents.log", BIN, "agent", "--engine", "simulated", "--hosts", n_hosts,
        "--url", server.url, "--token", token.token, "--state-dir", directory / "state",
    )


def wait_for_hosts(client, n_hosts, agents):
    def all_active():
        agents.check()
        found = [host for host in client.list_host(state="active") if host.agentState == "active"]
        return found if len(found) == n_hosts else None

    return wait_for("%s active hosts" % n_hosts, all_active)


@pytest.fixture
def name(request):
    """A name that no other test uses and that every type accepts."""
    words = request.node.name.removeprefix("test_").replace("_", "-").split("[")[0]
    return "%s-%s" % (words[:40].strip("-"), next(COUNT))


COUNT = itertools.count(1)


@pytest.fixture
def new_container(client, hosts, name):
    """A function that makes running containers, all removed after the test."""
    made = []

    def make(**fields):
        fields.setdefault("name", "%s-%s" % (name, len(made)))
        fields.setdefault("imageUuid", "sim:%s" % name)
        container = client.wait_success(client.create_container(**fields))
        made.append(container)
        return container

    yield make
    for container in made:
        if client.reload(container).state not in ("removing", "removed", "purging", "purged"):
            client.delete(container)


@pytest.fixture
def stack(client, name):
    """An empty stack, removed after the test with all that is in it."""
    stack = client.wait_success(client.create_environment(name=name))
    yield stack
    if client.reload(stack).state not in ("removing", "removed"):
        client.wait_success(client.delete(stack))


@pytest.fixture
def new_service(client, hosts, stack):
    """A function that makes a service in the test's stack."""

    def make(service_name="web", launch_config=None, **fields):
        launch_config = dict({"imageUuid": "sim:%s" % service_name}, **(launch_config or {}))
        service = client.create_service(
            name=service_name, environmentId=stack.id, launchConfig=launch_config, **fields
        )
        return client.wait_success(service)

    return make
