"""Accounts, projects and keys."""

import cattle
import requests

from conftest import refused


def test_the_first_start_made_an_admin_and_a_project(admin):
    admins = admin.list_account(kind="admin")
    assert [account.state for account in admins] == ["active"]
    default = [project for project in admin.list_project() if project.name == "Default"]
    assert [project.state for project in default] == ["active"]
    assert admin.by_id_project(default[0].id).uuid == default[0].uuid


def test_an_account_lives_and_ends(admin, name):
    account = admin.create_account(name=name, kind="user")
    assert account.transitioning == "yes"
    account = admin.wait_success(account)
    assert (account.state, account.kind, account.name) == ("active", "user", name)

    account = admin.update(account, description="of a test")
    assert admin.by_id_account(account.id).description == "of a test"

    with refused(405):
        admin.delete(account)
    account = admin.wait_success(account.deactivate())
    assert account.state == "inactive"
    account = admin.wait_success(admin.delete(account))
    assert account.state == "removed"
    assert account.removed is not None


def test_a_key_works_until_it_is_deactivated(server, client, name):
    made = client.create_api_key(name=name)
    assert made.publicValue and made.secretValue
    key = client.wait_success(made)
    assert (key.state, key.secretValue, key.publicValue) == ("active", None, made.publicValue)
    assert client.list_api_key(name=name).data[0].secretValue is None

    other = cattle.Client(url=server.url + "/v1", access_key=made.publicValue, secret_key=made.secretValue)
    assert [found.id for found in other.list_api_key(publicValue=made.publicValue)] == [key.id]

    key = client.update(key, description="changed")
    assert key.description == "changed"

    with refused(405):
        client.delete(key)
    key = client.wait_success(key.deactivate())
    assert key.state == "inactive"
    with refused(401):
        other.list_api_key()
    key = client.wait_success(key.activate())
    assert other.list_api_key()
    key = client.wait_success(key.deactivate())
    key = client.wait_success(client.delete(key))
    assert key.state == "removed"


def test_keys_stay_in_their_project(server, client, make_project, name):
    other = make_project(name)
    assert other.project_id != client.project_id
    stack = client.wait_success(client.create_environment(name=name))
    assert other.by_id_environment(stack.id) is None
    assert stack.id not in [found.id for found in other.list_environment()]
    with refused(422, "InvalidReference", "environmentId"):
        other.create_service(name="thief", environmentId=stack.id, launchConfig={"imageUuid": "sim:x"})
    answer = requests.get(
        "%s/v1/projects/%s/containers" % (server.url, client.project_id),
        auth=(other._access_key, other._secret_key), timeout=10,
    )
    assert answer.status_code == 403
    client.wait_success(client.delete(stack))


def test_a_project_lives_and_ends(admin, name):
    project = admin.wait_success(admin.create_project(name=name))
    assert project.state == "active"
    project = admin.update(project, description="of a test")
    assert project.description == "of a test"
    members = project.projectMembers()
    assert [member.role for member in members] == ["owner"]
    project = admin.wait_success(project.deactivate())
    assert project.state == "inactive"
    project = admin.wait_success(project.activate())
    project = admin.wait_success(admin.delete(project))
    assert project.state == "removed"


def test_settings_are_the_admins(client, admin):
    assert admin.list_setting()
    assert not hasattr(client, "create_setting")
