//! Who sees and may do what: types by roles from the declarations, rows by project (`access-control.md` §§2, 3, 8, 10).

use remuda_apitests::{Api, Harness, on_both_stores};
use remuda_schema::Role;
use serde_json::{Value, json};

on_both_stores!(
    projects_do_not_see_each_other,
    every_type_and_verb_follows_the_declarations,
    members_replace_members,
    keys_stay_in_their_project,
    the_last_administrator_stays,
);

/// A key of a project, which acts as the project and nothing else.
async fn project_key(h: &Harness, project: &str) -> Api {
    let inside = h.admin().inside(project);
    let key = inside.create("apikeys", json!({})).await;
    inside.wait_state(&key, &["active"]).await;
    let text = |name: &str| key[name].as_str().unwrap().to_owned();
    h.keyed(Some((text("publicValue"), text("secretValue"))))
}

/// A person: an account with a key.
async fn person(h: &Harness, name: &str, kind: &str) -> (Api, String) {
    let account = h.admin().create("accounts", json!({"name": name, "kind": kind})).await;
    let account = h.admin().wait_state(&account, &["active"]).await;
    let key = h.admin().create("apikeys", json!({"accountId": account["id"]})).await;
    h.admin().wait_state(&key, &["active"]).await;
    let text = |name: &str| key[name].as_str().unwrap().to_owned();
    let api = h.keyed(Some((text("publicValue"), text("secretValue"))));
    (api, account["id"].as_str().unwrap().to_owned())
}

async fn projects_do_not_see_each_other(h: Harness) {
    let other = h.admin().create("projects", json!({"name": "other"})).await;
    let other = h.admin().wait_state(&other, &["active"]).await["id"].as_str().unwrap().to_owned();
    let (mine, theirs) = (project_key(&h, "1a5").await, project_key(&h, &other).await);
    let stack = theirs.create("environments", json!({"name": "theirs"})).await;
    let body = json!({"name": "web", "environmentId": stack["id"], "launchConfig": {"imageUuid": "sim:x"}});
    let service = theirs.create("services", body.clone()).await;
    let container = theirs.create("containers", json!({"imageUuid": "sim:x", "name": "theirs"})).await;
    let volume = theirs.create("volumes", json!({"name": "theirs", "driver": "local"})).await;
    let token = theirs.create("registrationtokens", json!({})).await;
    let key = theirs.create("apikeys", json!({})).await;
    for made in [&stack, &service, &container, &volume, &token, &key] {
        let id = made["id"].as_str().unwrap();
        let plural = made["links"]["self"].as_str().unwrap().rsplit('/').nth(1).unwrap();
        let path = format!("{plural}/{id}");
        mine.get(&path).await.expect_error(404, "Not Found", None);
        assert!(matches!(mine.put(&path, json!({"name": "x"})).await.status, 404 | 405), "{path}");
        assert!(matches!(mine.delete(&path).await.status, 404 | 405), "{path}");
        mine.post(&format!("{path}/?action=remove"), json!({})).await.expect_error(404, "Not Found", None);
        let listed = mine.get(&format!("{plural}?limit=0")).await.expect_status(200);
        assert!(!listed.column("uuid").contains(&made["uuid"]), "{path}");
        assert!(!mine.get(&format!("{plural}?accountId={other}")).await.column("id").contains(&made["id"]), "{path}");
        for link in made["links"].as_object().unwrap().values() {
            let tail = link.as_str().unwrap().split("/v1/").nth(1).unwrap();
            assert_eq!(mine.get(tail).await.status, 404, "{tail}");
        }
    }
    let foreign = json!({"name": "w", "environmentId": stack["id"], "launchConfig": {"imageUuid": "sim:x"}});
    mine.post("services", foreign).await.expect_error(422, "InvalidReference", Some("environmentId"));
    let foreign = json!({"imageUuid": "sim:x", "dataVolumesFrom": [container["id"]]});
    mine.post("containers", foreign).await.expect_error(422, "InvalidReference", Some("dataVolumesFrom"));
    mine.inside(&other).get("containers").await.expect_error(403, "Forbidden", None);
    mine.header("X-API-Project-Id", &other).get("containers").await.expect_error(403, "Forbidden", None);
    mine.get(&format!("projects/{other}")).await.expect_error(404, "Not Found", None);
    mine.get("accounts/1a1").await.expect_error(404, "Not Found", None);
    assert_eq!(mine.get("projects?all=true").await.column("id"), ["1a5"]);
    // An administrator outside reads everything and changes nothing of projects.
    let admin = h.admin();
    assert!(admin.get("containers").await.column("id").contains(&container["id"]));
    admin.delete(&format!("containers/{}", container["id"].as_str().unwrap())).await.expect_status(405);
    admin.post("containers", json!({"imageUuid": "sim:x"})).await.expect_status(405);
    // Inside one project only that one.
    assert!(!h.project().get("containers").await.column("id").contains(&container["id"]));
}

/// Type × verb × role: the status of a request tells whether the role may, exactly as declared.
async fn every_type_and_verb_follows_the_declarations(h: Harness) {
    let (user, _) = person(&h, "user", "user").await;
    let project = project_key(&h, "1a5").await;
    let callers = [(Role::Admin, h.admin()), (Role::User, user), (Role::Project, project)];
    let registry = remuda_model::registry();
    let mut n_checked = 0;
    for (role, api) in callers {
        let schemas = registry.schemas(role);
        for def in registry.types() {
            let plural = def.plural_name();
            let Some(schema) = schemas.get(def.name) else {
                for method in ["GET", "POST"] {
                    let answer = api.send(method, &plural, None).await;
                    assert_eq!(answer.status, 404, "{role} {method} {plural}: {answer:?}");
                }
                continue;
            };
            let listed = api.get(&plural).await;
            assert_eq!(listed.status == 405, !schema.collection_allows("GET"), "{role} GET {plural}: {listed:?}");
            assert!(matches!(listed.status, 200 | 405), "{role} GET {plural}: {listed:?}");
            // What cannot be made is 405 whatever the body; what can be is told what is wrong with it.
            let may_create = schema.collection_allows("POST") && def.name != "projectMember";
            let made = api.post(&plural, json!({"name": "x".repeat(3000)})).await;
            let has_rows = def.table().is_some();
            assert_eq!(
                made.status == 405,
                !may_create || !has_rows && made.status == 405,
                "{role} POST {plural}: {made:?}"
            );
            assert!(made.status < 500, "{role} POST {plural}: {made:?}");
            for (method, letter) in [("PUT", "PUT"), ("DELETE", "DELETE")] {
                let answer = api.send(method, &format!("{plural}/1zz987654"), None).await;
                let allowed = schema.resource_allows(letter);
                let expected: &[u16] = if allowed { &[404] } else { &[404, 405] };
                assert!(expected.contains(&answer.status), "{role} {method} {plural}: {answer:?}");
                assert_eq!(answer.status == 405, !allowed, "{role} {method} {plural}: {answer:?}");
            }
            n_checked += 4;
        }
    }
    assert!(n_checked > 300, "{n_checked}");
}

async fn members_replace_members(h: Harness) {
    let (owner, owner_id) = person(&h, "owner", "user").await;
    let (member, member_id) = person(&h, "member", "user").await;
    let project = owner.create("projects", json!({"name": "mine"})).await;
    let project = owner.wait_state(&project, &["active"]).await;
    let id = project["id"].as_str().unwrap();
    let own = format!("projects/{id}");
    assert!(project["actions"]["setmembers"].is_string());
    let members = owner.get(&format!("{own}/projectmembers")).await.expect_status(200);
    assert_eq!((members.column("externalId"), members.column("role")), (vec![json!(owner_id)], vec![json!("owner")]));
    assert!(members.column("id")[0].as_str().unwrap().starts_with("1pm"));
    member.get(&own).await.expect_error(404, "Not Found", None);
    member.inside(id).get("containers").await.expect_error(403, "Forbidden", None);
    let set = format!("{own}/?action=setmembers");
    let entry =
        |id: &str, role: &str| json!({"externalId": id, "externalIdType": "rancher_id", "role": role, "extra": 1});
    let both = json!({"members": [entry(&owner_id, "owner"), entry(&member_id, "member")]});
    let answer = owner.post(&set, both).await.expect_status(200);
    assert_eq!(answer.body["type"], "collection");
    assert_eq!(answer.column("role").len(), 2);
    // A member reads and works, but does not rule.
    let seen = member.get(&own).await.expect_status(200);
    assert_eq!(seen.body["actions"], json!({}));
    member.inside(id).create("environments", json!({"name": "by-member"})).await;
    member.put(&own, json!({"name": "x"})).await.expect_error(404, "Not Found", None);
    member.delete(&own).await.expect_error(403, "Forbidden", None);
    member.post(&set, json!({"members": []})).await.expect_error(422, "ActionNotAvailable", Some("action"));
    member.post("projectmembers", json!({})).await.expect_status(405);
    for (members, status, code) in [
        (json!([]), 422, ""),
        (Value::Null, 422, ""),
        (json!([entry(&member_id, "member")]), 400, "InvalidFormat"),
        (json!([entry("1a999", "owner")]), 404, "identityNotFound"),
    ] {
        let answer = owner.post(&set, json!({"members": members})).await.expect_status(status);
        assert!(code.is_empty() || answer.body["code"] == code, "{answer:?}");
    }
    // Read-only members and restricted ones.
    let limited = json!({"members": [entry(&owner_id, "owner"), entry(&member_id, "readonly")]});
    owner.post(&set, limited).await.expect_status(200);
    let inside = member.inside(id);
    inside.get("environments").await.expect_status(200);
    inside.post("environments", json!({"name": "n"})).await.expect_error(405, "Method not allowed", None);
    inside.get("registrationtokens").await.expect_error(404, "Not Found", None);
    // Gone.
    owner.post(&set, json!({"members": [entry(&owner_id, "owner")]})).await.expect_status(200);
    member.get(&own).await.expect_error(404, "Not Found", None);
    owner.post("projects", json!({"members": [entry(&member_id, "member")]})).await.expect_error(
        400,
        "InvalidFormat",
        Some("members"),
    );
    let given = owner.create("projects", json!({"members": [entry(&member_id, "owner")]})).await;
    let given = member.wait_state(&given, &["active"]).await;
    assert!(given["actions"]["setmembers"].is_string());
    let removed = owner.delete(&own).await.expect_status(200);
    assert_eq!(removed.body["id"], project["id"]);
}

async fn keys_stay_in_their_project(h: Harness) {
    let key = project_key(&h, "1a5").await;
    assert_eq!(key.get("networks").await.expect_status(200).header("x-api-account-id"), Some("1a5"));
    key.post("projects", json!({"name": "x"})).await.expect_status(405);
    key.inside("1a5").get("networks").await.expect_status(200);
    key.inside("1a1").get("networks").await.expect_error(403, "Forbidden", None);
    // Deactivated, the key opens nothing.
    let (access, _) = key.key.clone().unwrap();
    let row = h.project().get(&format!("apikeys?publicValue={access}")).await.body["data"][0].clone();
    let own = row["links"]["self"].as_str().unwrap();
    h.project().delete(own).await.expect_status(405);
    h.project().post(row["actions"]["deactivate"].as_str().unwrap(), json!({})).await.expect_status(202);
    key.get("networks").await.expect_error(401, "Unauthorized", None);
    h.project().wait_state(&row, &["inactive"]).await;
    h.project().delete(own).await.expect_status(200);
    h.project().wait_state(&row, &["removed"]).await;
    h.project().delete(own).await.expect_status(200);
}

async fn the_last_administrator_stays(h: Harness) {
    let admin = h.admin();
    admin.put("accounts/1a1", json!({"kind": "user"})).await.expect_error(405, "LastAdminAccount", None);
    admin.delete("accounts/1a1").await.expect_error(405, "LastAdminAccount", None);
    admin.post("accounts/1a1/?action=deactivate", json!({})).await.expect_error(405, "LastAdminAccount", None);
    let (second, id) = person(&h, "second", "admin").await;
    second.get("accounts").await.expect_status(200);
    admin.delete(&format!("accounts/{id}")).await.expect_status(405);
    admin.post(&format!("accounts/{id}/?action=deactivate"), json!({})).await.expect_status(202);
    second.get("accounts").await.expect_error(401, "Unauthorized", None);
    let (user, own) = person(&h, "user", "user").await;
    assert_eq!(user.get("accounts").await.column("id"), [json!(own)]);
    user.get("accounts/1a1").await.expect_error(404, "Not Found", None);
}
