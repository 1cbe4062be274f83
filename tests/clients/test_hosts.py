"""Hosts: registration, facts, and being taken out of service."""

import requests

from conftest import add_hosts, refused, wait_for


def test_a_registration_token_says_how_to_join(server, client):
    made = client.create_registration_token()
    assert made.state == "registering"
    token = client.wait_success(made)
    assert token.state == "active"
    assert token.registrationUrl.startswith(server.url + "/v1/scripts/")
    assert token.token in token.registrationUrl
    assert token.registrationUrl in token.command

    script = requests.get(token.registrationUrl, timeout=10)
    assert script.status_code == 200
    exports = [line for line in script.text.splitlines() if line.startswith("export ")]
    assert [line.split("=")[0] for line in exports[:4]] == [
        "export CATTLE_REGISTRATION_ACCESS_KEY", "export CATTLE_REGISTRATION_SECRET_KEY",
        "export CATTLE_URL", "export DETECTED_CATTLE_AGENT_IP",
    ]
    assert requests.get(server.url + "/v1/scripts/a:1:b", timeout=10).status_code == 404


def test_hosts_tell_about_themselves(client, hosts):
    assert len({host.uuid for host in hosts}) == len(hosts)
    for host in hosts:
        assert host.state == "active"
        assert host.agentState == "active"
        assert host.hostname
        assert host.info.cpuInfo.count >= 1
        assert host.info.memoryInfo.memTotal > 0
        assert host.info.osInfo.dockerVersion
        assert [pool.kind for pool in host.storagePools()] in (["docker"], ["sim"])
        assert len(host.ipAddresses().data) == 1
        assert host.physicalHost().id == host.physicalHostId


def test_labels_and_names_are_changed(client, hosts, name):
    host = client.wait_success(client.update(hosts[0], name=name, labels={"rack": "7", "disk": "ssd"}))
    assert host.name == name
    assert (host.labels.rack, host.labels.disk) == ("7", "ssd")
    assert [found.id for found in client.list_host(name=name)] == [host.id]
    labels = {(label.key, label.value) for label in host.hostLabels()}
    assert {("rack", "7"), ("disk", "ssd")} <= labels
    host = client.wait_success(client.update(host, name=None, labels={}))
    assert host.name is None
    assert not hasattr(host.labels, "rack")


def test_an_inactive_host_gets_nothing_new(client, hosts, new_container):
    host = client.wait_success(hosts[0].deactivate())
    assert host.state == "inactive"
    try:
        made = [new_container() for _ in range(4)]
        assert host.id not in {container.hosts().data[0].id for container in made}
    finally:
        host = client.wait_success(host.activate())
    assert host.state == "active"
    container = new_container(requestedHostId=host.id)
    assert container.hosts().data[0].id == host.id


def test_a_host_is_removed_with_its_containers(server, make_project, tmp_path, name):
    client = make_project(name)
    agents = add_hosts(server, client, tmp_path, 1)
    try:
        host = wait_for("a host", lambda: next(iter(client.list_host(state="active")), None))
        container = client.wait_success(client.create_container(name=name, imageUuid="sim:x"))
        assert container.state == "running"
        with refused(405):
            client.delete(host)
        host = client.wait_success(host.deactivate())
        host = client.wait_success(client.delete(host))
        assert host.state == "removed"
        wait_for("the container to go", lambda: client.reload(container).state in ("removed", "purged"))
    finally:
        agents.stop()
