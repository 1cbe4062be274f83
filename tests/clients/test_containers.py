"""Containers from creation to removal, and the rows around them."""

import gdapi
import pytest

from conftest import refused, wait_for


def test_a_container_lives_and_ends(client, hosts, name):
    made = client.create_container(name=name, imageUuid="sim:web", command=["serve", "--all"])
    assert made.type == "container"
    assert made.transitioning == "yes"
    container = client.wait_success(made)
    assert (container.state, container.name, container.imageUuid) == ("running", name, "sim:web")
    assert container.command == ["serve", "--all"]
    assert container.accountId == client.project_id
    assert len(container.hosts().data) == 1
    assert set(vars(container.actions)) >= {"stop", "restart", "execute", "logs"}

    container = client.wait_success(container.stop(timeout=0))
    assert container.state == "stopped"
    assert "start" in vars(container.actions)
    container = client.wait_success(container.start())
    assert container.state == "running"
    starts = container.startCount
    container = client.wait_success(container.restart())
    assert (container.state, container.startCount) == ("running", starts + 1)

    container = client.update(container, description="changed", name=name + "-b")
    assert (container.description, container.name) == ("changed", name + "-b")

    gone = client.delete(container)
    assert gone.transitioning == "yes"
    gone = client.wait_success(gone)
    assert gone.state == "removed"
    assert gone.removed is not None
    assert container.id not in [found.id for found in client.list_container(removed_null=True)]


def test_a_removed_container_is_restored_and_purged(client, new_container):
    container = new_container()
    container = client.wait_success(client.delete(container))
    assert {"restore", "purge"} <= set(vars(container.actions))
    container = client.wait_success(container.restore())
    assert (container.state, container.removed) == ("stopped", None)
    container = client.wait_success(client.delete(container))
    container = client.wait_success(container.purge())
    assert container.state == "purged"


def test_creating_without_starting(client, new_container):
    container = new_container(startOnCreate=False)
    assert container.state == "stopped"
    container = client.wait_success(container.start())
    assert container.state == "running"


def test_fields_are_kept_as_given(client, new_container):
    given = {
        "environment": {"A": "1", "EMPTY": ""},
        "labels": {"tier": "front", "io.example": "x"},
        "hostname": "web-1",
        "workingDir": "/srv",
        "user": "nobody",
        "entryPoint": ["/bin/sh", "-c"],
        "dataVolumes": ["/data", "/tmp/x:/x:ro"],
        "dns": ["192.0.2.53"],
        "privileged": True,
        "tty": True,
        "memory": 64 * 1024 * 1024,
        "capAdd": ["NET_ADMIN"],
        "restartPolicy": {"name": "on-failure", "maximumRetryCount": 3},
    }
    container = new_container(**given)
    read = client.by_id_container(container.id)
    for field in ("hostname", "workingDir", "user", "entryPoint", "dataVolumes", "privileged", "tty", "memory", "capAdd"):
        assert getattr(read, field) == given[field], field
    assert given["dns"][0] in read.dns
    environment = vars(read.environment)
    assert {key: environment.get(key) for key in given["environment"]} == given["environment"]
    labels = vars(read.labels)
    assert {key: labels.get(key) for key in given["labels"]} == given["labels"]
    assert (read.restartPolicy.name, read.restartPolicy.maximumRetryCount) == ("on-failure", 3)


def test_ports_are_rows_of_their_own(client, new_container):
    container = new_container(ports=["18081:80/tcp", "53/udp"])
    ports = {port.privatePort: port for port in container.ports_link()}
    assert set(ports) == {80, 53}
    assert (ports[80].publicPort, ports[80].protocol) == (18081, "tcp")
    assert (ports[53].publicPort, ports[53].protocol) == (None, "udp")
    assert ports[80].instance().id == container.id


def test_a_host_port_belongs_to_one_container(client, hosts, new_container):
    for host in hosts:
        new_container(ports=["18082:80"], requestedHostId=host.id)
    with pytest.raises(gdapi.ClientApiError, match="(?i)port"):
        new_container(ports=["18082:80"])


def test_containers_link_to_each_other(client, new_container):
    target = new_container()
    container = new_container(instanceLinks={"db": target.id})
    links = container.instanceLinks()
    assert [(link.linkName, link.targetInstanceId) for link in links] == [("db", target.id)]
    link = client.wait_success(client.reload(links.data[0]))
    assert link.state == "active"
    other = new_container()
    link = client.wait_success(client.update(link, targetInstanceId=other.id))
    assert link.targetInstanceId == other.id


def test_volumes_are_rows_of_their_own(client, new_container):
    container = new_container(dataVolumes=["/data"])
    mounts = container.mounts()
    assert [mount.path for mount in mounts] == ["/data"]
    volume = mounts.data[0].volume()
    assert volume.instanceId is None or volume.instanceId == container.id
    assert volume.accountId == client.project_id


def test_streams_hand_out_a_url_and_a_token(client, server, new_container):
    container = new_container()
    for access in (container.execute(command=["/bin/sh"]), container.logs(follow=False, lines=10)):
        assert access.url.startswith(server.url.replace("http", "ws", 1) + "/v1/")
        assert access.token


def test_lists_are_filtered_sorted_and_paged(client, new_container, name):
    made = [new_container() for _ in range(3)]
    ids = [container.id for container in made]
    names = [container.name for container in made]
    prefix = name + "-"

    def found(**filters):
        return [container.id for container in client.list_container(name_prefix=prefix, **filters)]

    assert found() == ids
    assert found(name=names[1]) == [ids[1]]
    assert found(name_ne=names[1]) == [ids[0], ids[2]]
    assert found(name_like="%-2") == [ids[2]]
    assert found(state="stopped") == []
    assert found(uuid=made[0].uuid) == [ids[0]]
    assert found(removed_null=True) == ids
    assert found(removed_notnull=True) == []
    assert found(sort="name", order="desc") == ids[::-1]
    assert found(id=ids[0]) == [ids[0]]
    assert found(nonesuch="x") == ids, "unknown filters are ignored"
    assert found(limit=-2) == ids

    page = client.list_container(name_prefix=prefix, limit=2)
    assert [container.id for container in page] == ids[:2]
    assert page.pagination.limit == 2
    assert page.pagination.partial
    rest = page.next()
    assert [container.id for container in rest] == ids[2:]
    assert rest.pagination.next is None


def test_linked_things_come_along_when_asked(client, new_container):
    container = new_container()
    with_hosts = client.list_container(id=container.id, include="hosts")
    assert [host.id for host in with_hosts.data[0].hosts] == [container.hosts().data[0].id]


def test_wrong_input_is_refused_with_its_code(client, hosts):
    with refused(422, "MissingRequired", "imageUuid"):
        client.create_container(name="x")
    with refused(422, "InvalidOption", "networkMode"):
        client.create_container(imageUuid="sim:x", networkMode="nonesuch")
    with refused(422, "InvalidReference", "requestedHostId"):
        client.create_container(imageUuid="sim:x", requestedHostId="1h999999")
    with refused(422, "MaxLengthExceeded", "name"):
        client.create_container(imageUuid="sim:x", name="n" * 300)
    with refused(422, "PortWrongFormat"):
        client.create_container(imageUuid="sim:x", ports=["eighty"])


def test_wrong_actions_are_refused_with_their_code(client, new_container):
    container = new_container()
    with refused(422, "InvalidAction", "action"):
        client._post(container.links.self + "/?action=fly", {})
    gone = client.wait_success(client.delete(container))
    assert gone.state == "removed"
    with refused(422, "ActionNotAvailable", "action"):
        container.restart()


def test_unknown_things_are_absent(client):
    assert client.by_id_container("1i999999") is None
    assert client.by_id_container("nonesuch") is None
    with refused(404):
        client._get(client.schema.types["container"].links.collection.replace("containers", "nonesuch"))


def test_options_of_the_clients_command_line_are_no_filters(client, new_container):
    """`cattle list-container` sends its own options along; none of them may be an error, or narrow the list."""
    container = new_container()
    options = {"_access_key": "x", "_secret_key": "y", "_url": "z", "_cache": True, "_trim": True, "_format": "json"}
    assert container.id in [found.id for found in client.list_container(**options)]


def test_what_happened_is_in_the_audit_log(client, new_container):
    container = new_container()

    def entries():
        logs = client.list_audit_log(resourceType="container", resourceId=container.id)
        return [log for log in logs if log.eventType.startswith("api.container")]

    assert wait_for("audit records", entries)[0].responseCode == "201"
