"""Stacks and services from creation to removal."""

from conftest import refused, wait_for


def instances(service):
    """The containers that count: what is being removed is on its way out."""
    return sorted(
        (found for found in service.instances() if found.state not in ("removing", "removed", "purging", "purged")),
        key=lambda found: found.name,
    )


def test_a_stack_lives_and_ends(client, name):
    made = client.create_environment(name=name, description="of a test")
    assert made.type == "environment"
    stack = client.wait_success(made)
    assert (stack.state, stack.healthState) == ("active", "healthy")
    assert [found.id for found in client.list_environment(name=name, removed_null=True)] == [stack.id]
    with refused(422, "NotUnique", "name"):
        client.create_environment(name=name)
    stack = client.wait_success(client.update(stack, name=name + "-b"))
    assert stack.name == name + "-b"
    stack = stack.addoutputs(outputs={"url": "http://x/"})
    assert stack.outputs.url == "http://x/"
    stack = client.wait_success(client.delete(stack))
    assert stack.state == "removed"
    again = client.wait_success(client.create_environment(name=name + "-b"))
    client.wait_success(client.delete(again))


def test_names_of_stacks_are_checked(client):
    for bad in ("-x", "x-", "a_b"):
        with refused(422, "InvalidCharacters", "name"):
            client.create_environment(name=bad)
    with refused(422, "MissingRequired", "name"):
        client.create_environment()


def test_a_service_lives_and_ends(client, stack, new_service):
    service = new_service("web", scale=2)
    assert (service.state, service.scale, service.environmentId) == ("inactive", 2, stack.id)
    assert [found.id for found in stack.services()] == [service.id]
    assert instances(service) == []

    service = client.wait_success(service.activate())
    assert service.state == "active"
    running = instances(service)
    assert [found.name for found in running] == ["%s_web_%s" % (stack.name, n) for n in (1, 2)]
    assert {found.state for found in running} == {"running"}
    labels = vars(running[0].labels)
    assert labels["io.rancher.stack.name"] == stack.name
    assert labels["io.rancher.stack_service.name"] == stack.name + "/web"

    service = client.wait_success(client.update(service, scale=3))
    assert service.scale == 3
    assert len(instances(service)) == 3
    service = client.wait_success(client.update(service, scale=1))
    only_first = [stack.name + "_web_1"]
    wait_for("one container", lambda: [found.name for found in instances(service)] == only_first)

    service = client.wait_success(service.deactivate())
    assert service.state == "inactive"
    assert [found.state for found in instances(service)] == ["stopped"]
    service = client.wait_success(service.activate())
    assert [(found.id, found.state) for found in instances(service)] == [(running[0].id, "running")]

    service = client.update(service, description="changed", metadata={"k": {"deep": [1, 2]}})
    service = client.wait_success(service)
    assert service.metadata.k.deep == [1, 2]

    service = client.wait_success(client.delete(service))
    assert service.state == "removed"
    assert client.reload(running[0]).state in ("removed", "purged")


def test_what_goes_missing_comes_back(client, new_service):
    service = client.wait_success(new_service("web", scale=2, startOnCreate=True))
    service = wait_for("the start", lambda: (s := client.reload(service)).state == "active" and s)
    one, two = instances(service)
    client.wait_success(client.delete(one))

    def healed():
        found = instances(service)
        names = [instance.name for instance in found]
        return names == [one.name, two.name] and {instance.state for instance in found} == {"running"} and found

    replacement = wait_for("a replacement", healed)[0]
    assert replacement.id != one.id

    client.wait_transitioning(two.stop(timeout=0))
    wait_for("a restart", healed)
    assert instances(service)[1].id == two.id


def test_services_link_to_each_other(client, new_service):
    store = new_service("store")
    web = new_service("web")
    web.setservicelinks(serviceLinks=[{"serviceId": store.id, "name": "db"}])
    assert [service.id for service in web.consumedservices()] == [store.id]
    maps = client.list_service_consume_map(serviceId=web.id, removed_null=True)
    assert [(found.name, found.consumedServiceId) for found in maps] == [("db", store.id)]
    with refused(422, "NotUnique", "serviceId"):
        web.addservicelink(serviceLink={"serviceId": store.id})
    web.removeservicelink(serviceLink={"serviceId": store.id})
    wait_for("the link to go", lambda: not [
        found for found in client.list_service_consume_map(serviceId=web.id, removed_null=True)
        if found.state == "active"
    ])
    with refused(422, "InvalidReference", "serviceId"):
        web.removeservicelink(serviceLink={"serviceId": store.id})


def test_a_stack_starts_and_stops_its_services(client, stack, new_service):
    store, web = new_service("store"), new_service("web")
    web.setservicelinks(serviceLinks=[{"serviceId": store.id}])
    stack.activateservices()
    for service in (store, web):
        wait_for("%s to be active" % service.name, lambda: client.reload(service).state == "active")
    stack.deactivateservices()
    for service in (store, web):
        wait_for("%s to be inactive" % service.name, lambda: client.reload(service).state == "inactive")


def test_a_stack_takes_its_services_along(client, stack, new_service):
    service = client.wait_success(new_service("web", scale=2).activate())
    containers = instances(service)
    gone = client.wait_success(client.delete(stack))
    assert gone.state == "removed"
    # The name is free at once; what the stack had follows.
    wait_for("the service to go", lambda: client.reload(service).state == "removed")
    wait_for(
        "the containers to go",
        lambda: {client.reload(found).state for found in containers} <= {"removed", "purging", "purged"},
    )


def test_wrong_services_are_refused_with_their_code(client, stack, new_service):
    new_service("taken")
    for code, field, fields in [
        ("MissingRequired", "name", {"launchConfig": {"imageUuid": "sim:x"}}),
        ("NotUnique", "name", {"name": "Taken", "launchConfig": {"imageUuid": "sim:x"}}),
        ("InvalidCharacters", "name", {"name": "a--b", "launchConfig": {"imageUuid": "sim:x"}}),
        ("InvalidReference", "imageUuid", {"name": "x", "launchConfig": {"imageUuid": "docker:a:b:c"}}),
        ("PortWrongFormat", None, {"name": "x", "launchConfig": {"imageUuid": "sim:x", "ports": ["eighty"]}}),
    ]:
        with refused(422, code, field):
            client.create_service(environmentId=stack.id, **fields)
    with refused(422, "MissingRequired", "environmentId"):
        client.create_service(name="x", launchConfig={"imageUuid": "sim:x"})
    with refused(422, "InvalidReference", "environmentId"):
        client.create_service(name="x", environmentId="1e999999", launchConfig={"imageUuid": "sim:x"})


def test_a_service_is_upgraded_finished_and_rolled_back(client, new_service):
    service = client.wait_success(new_service("web", launch_config={"imageUuid": "sim:web:1"}, scale=2).activate())
    first = instances(service)

    def upgrade(image, **fields):
        strategy = dict({"batchSize": 1, "intervalMillis": 100, "launchConfig": {"imageUuid": image}}, **fields)
        return client.wait_success(service.upgrade_action(inServiceStrategy=strategy))

    def managed():
        maps = client.list_service_expose_map(serviceId=service.id, managed=True, state="active")
        return sorted(found.instanceId for found in maps)

    # What came is there, what was there is kept.
    service = upgrade("sim:web:2")
    assert service.state == "upgraded"
    assert service.launchConfig.imageUuid == "sim:web:2"
    assert service.upgrade.inServiceStrategy.previousLaunchConfig.imageUuid == "sim:web:1"
    everything = list(service.instances())
    assert {found.id for found in first} < {found.id for found in everything}
    assert len(everything) == 4
    second = [found for found in everything if found.id in managed()]
    assert {(found.state, found.imageUuid) for found in second} == {("running", "sim:web:2")}
    assert {found.version for found in second} == {service.launchConfig.version}
    assert {client.reload(found).state for found in first} == {"stopped"}
    offered = set(vars(service.actions))
    assert offered >= {"finishupgrade", "rollback"} and not offered & {"upgrade", "cancelupgrade", "restart"}

    # Back to the very containers of before.
    service = client.wait_success(service.rollback())
    assert (service.state, service.launchConfig.imageUuid) == ("active", "sim:web:1")
    assert managed() == sorted(found.id for found in first)
    assert {client.reload(found).state for found in first} == {"running"}

    # And again, this time for good.
    service = upgrade("sim:web:2", startFirst=True, batchSize=2)
    service = client.wait_success(service.finishupgrade())
    assert service.state == "active"
    wait_for("the old ones to go", lambda: {client.reload(found).state for found in first} <= {"removed", "purged"})
    assert [found.name for found in instances(service)] == [found.name for found in first]


def test_a_sidekick_is_upgraded_alone(client, new_service):
    sidekick = {"name": "log", "imageUuid": "sim:log:1", "networkLaunchConfig": "web"}
    service = client.wait_success(new_service("web", secondaryLaunchConfigs=[sidekick]).activate())
    web, log = instances(service)
    strategy = {"intervalMillis": 100, "secondaryLaunchConfigs": [dict(sidekick, imageUuid="sim:log:2")]}
    service = client.wait_success(service.upgrade_action(inServiceStrategy=strategy))
    assert service.state == "upgraded"
    assert client.reload(web).state == "running"
    service = client.wait_success(service.finishupgrade())
    wait_for("the old sidekick to go", lambda: client.reload(log).state in ("removed", "purged"))
    now = instances(service)
    assert [found.id for found in now if found.name == web.name] == [web.id]
    assert {found.deploymentUnitUuid for found in now} == {web.deploymentUnitUuid}


def test_a_service_is_restarted(client, new_service):
    service = client.wait_success(new_service("web", scale=2).activate())
    before = instances(service)
    strategy = {"batchSize": 1, "intervalMillis": 100}
    service = client.wait_success(service.restart(rollingRestartStrategy=strategy))
    assert service.state == "active"
    after = instances(service)
    assert [found.id for found in after] == [found.id for found in before]
    assert [found.startCount for found in after] == [found.startCount + 1 for found in before]


def test_a_service_is_upgraded_to_another(client, stack, new_service):
    old = client.wait_success(new_service("old", scale=2).activate())
    new = new_service("new", scale=1)
    user = new_service("user")
    user.setservicelinks(serviceLinks=[{"serviceId": old.id, "name": "db"}])
    strategy = {
        "toServiceId": new.id, "finalScale": 2, "batchSize": 1, "intervalMillis": 100, "updateLinks": True,
    }
    old = client.wait_success(old.upgrade_action(toServiceStrategy=strategy))
    assert (old.state, old.scale) == ("upgraded", 0)
    new = wait_for("the new one", lambda: (now := client.reload(new)).state == "active" and now)
    assert new.scale == 2
    assert sorted(found.id for found in user.consumedservices()) == sorted([old.id, new.id])
    old = client.wait_success(old.finishupgrade())
    assert (old.state, old.scale) == ("active", 0)


def test_wrong_upgrades_are_refused_with_their_code(client, new_service):
    service = client.wait_success(new_service("web").activate())
    for code, field, given in [
        ("MissingRequired", "Upgrade strategy needs to be set", {}),
        (
            "InvalidOption",
            "LaunchConfig/secondaryLaunchConfigs need to be specified for inService strategy",
            {"inServiceStrategy": {}},
        ),
        ("MinLimitExceeded", "batchSize", {"inServiceStrategy": {"batchSize": 0}}),
        ("InvalidReference", "imageUuid", {"inServiceStrategy": {"launchConfig": {"imageUuid": "web"}}}),
    ]:
        with refused(422, code, field):
            service.upgrade_action(**given)
    with refused(422, "MissingRequired", "rollingRestartStrategy"):
        service.restart()
    assert client.reload(service).state == "active"
