"""Loading the schemas, which these clients make their methods from."""

import cattle
import gdapi
import pytest
import requests

from conftest import refused


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/schemas", ""])
def test_any_api_url_leads_to_the_schemas(server, client, path):
    found = cattle.Client(url=server.url + path, access_key=client._access_key, secret_key=client._secret_key)
    assert found.valid()
    assert found.schema.types["container"].links.collection == server.url + "/v1/containers"


def test_a_project_url_scopes_everything(server, admin, client):
    prefix = "%s/v1/projects/%s/" % (server.url, client.project_id)
    scoped = cattle.Client(url=prefix + "schemas", access_key=admin._access_key, secret_key=admin._secret_key)
    assert scoped.schema.types["container"].links.collection == prefix + "containers"
    for stack in scoped.list_environment():
        assert stack.links.self.startswith(prefix)


def test_methods_exist_as_the_role_allows(client, admin):
    for method in ["list_container", "create_container", "by_id_container", "update_by_id_container",
                   "create_environment", "create_service", "list_host", "create_api_key", "list_audit_log"]:
        assert hasattr(client, method), method
    for method in ["create_host", "create_account", "create_project_member"]:
        assert not hasattr(client, method), method
    assert hasattr(admin, "create_account")
    assert hasattr(admin, "create_project")


def test_schemas_say_what_a_field_takes(client):
    container = client.schema.types["container"]
    image = container.resourceFields.imageUuid
    assert (image.type, image.create, image.update) == ("string", True, False)
    assert container.resourceFields.state.type == "enum"
    assert "POST" in container.collectionMethods
    assert set(container.collectionFilters.name.modifiers) >= {"eq", "ne", "prefix", "like", "notlike", "null", "notnull"}
    assert container.resourceActions.stop.output == "container" or container.resourceActions.stop.output == "instance"


def test_strict_clients_reject_unknown_filters_themselves(server, client):
    strict = cattle.Client(
        url=server.url + "/v1", access_key=client._access_key, secret_key=client._secret_key, strict=True
    )
    strict.list_container(state="running", name_prefix="web")
    with pytest.raises(gdapi.ClientApiError):
        strict.list_container(nonesuch="x")


def test_a_wrong_key_is_refused(server):
    with refused(401, "Unauthorized"):
        cattle.Client(url=server.url + "/v1", access_key="WRONG", secret_key="wrong")
    answer = requests.get(server.url + "/v1", timeout=10)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert answer.headers["X-API-Schemas"] == server.url + "/v1/schemas"


def test_both_clients_see_the_same(server, client):
    plain = gdapi.Client(url=server.url + "/v1", access_key=client._access_key, secret_key=client._secret_key)
    assert set(plain.schema.types) == set(client.schema.types)
    assert [stack.id for stack in plain.list_environment()] == [stack.id for stack in client.list_environment()]
