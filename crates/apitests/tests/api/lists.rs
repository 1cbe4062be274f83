//! Filters, sort, pages, include, removed rows (`api-conventions.md` §§5, 8).

use remuda_apitests::{Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(filters_narrow, sorting_orders, pages_follow_each_other, includes_embed, envelopes_say_what_was_done);

async fn names(h: &Harness, query: &str) -> Vec<String> {
    let answer = h.project().get(&format!("environments?{query}")).await.expect_status(200);
    answer.column("name").iter().map(|name| name.as_str().unwrap_or("-").to_owned()).collect()
}

async fn three(h: &Harness) -> Vec<Value> {
    let mut made = Vec::new();
    for name in ["alpha", "beta", "gamma"] {
        made.push(h.project().create("environments", json!({"name": name, "description": format!("{name}%")})).await);
    }
    made
}

async fn filters_narrow(h: Harness) {
    let made = three(&h).await;
    let (id, uuid) = (made[1]["id"].as_str().unwrap(), made[1]["uuid"].as_str().unwrap());
    let cases = [
        ("name=beta", "beta"),
        ("name_eq=beta", "beta"),
        ("name_ne=beta", "alpha gamma"),
        ("name_ne=beta&name_ne=alpha", "gamma"),
        ("name_ne=beta&name_prefix=a", "alpha"),
        ("name_prefix=ga", "gamma"),
        ("name_like=%25et%25", "beta"),
        ("name_notlike=%25a%25m%25", "alpha beta"),
        ("name_null=true", ""),
        ("name_notnull=", "alpha beta gamma"),
        ("removed_null=%3Cnil%3E", "alpha beta gamma"),
        ("removed_notnull=1", ""),
        ("kind=environment", "alpha beta gamma"),
        ("accountId=1a5", "alpha beta gamma"),
        ("accountId=1a6", ""),
        ("accountId=5", ""),
        ("accountId_ne=1a6", "alpha beta gamma"),
        ("created_lt=2001-01-01T00:00:00Z", ""),
        ("created_gt=2001-01-01T00:00:00Z", "alpha beta gamma"),
        ("created_gt=yesterday", ""),
        ("nosuch=x&nosuch_like=y&name_nosuch=z&_access_key=q", "alpha beta gamma"),
        ("description=x", ""),
        ("include=nosuch", "alpha beta gamma"),
    ];
    for (query, expected) in cases {
        let found = names(&h, query).await.join(" ");
        if query == "description=x" {
            // Not a filter of the type: ignored.
            assert!(found.is_empty() || found == "alpha beta gamma");
            continue;
        }
        assert_eq!(found, expected, "{query}");
    }
    assert_eq!(names(&h, &format!("id={id}")).await, ["beta"]);
    assert_eq!(names(&h, &format!("id_gt={id}")).await, ["gamma"]);
    assert_eq!(names(&h, &format!("uuid={uuid}")).await, ["beta"]);
}

async fn sorting_orders(h: Harness) {
    three(&h).await;
    for (query, expected) in [
        ("", "alpha beta gamma"),
        ("sort=name", "alpha beta gamma"),
        ("sort=name&order=desc", "gamma beta alpha"),
        ("sort=name&order=sideways", "alpha beta gamma"),
        ("sort=nosuch&order=desc", "alpha beta gamma"),
        ("sort=id&order=desc", "gamma beta alpha"),
    ] {
        assert_eq!(names(&h, query).await.join(" "), expected, "{query}");
    }
}

async fn pages_follow_each_other(h: Harness) {
    three(&h).await;
    let project = h.project();
    let mut url = Some(project.url("environments?limit=2&sort=name&name_like=%25a%25"));
    let mut seen = Vec::new();
    while let Some(next) = url {
        let answer = project.get(&next).await.expect_status(200);
        seen.extend(answer.column("name"));
        assert_eq!(answer.body["pagination"]["limit"], 2);
        assert_eq!(answer.body["pagination"]["partial"], answer.body["pagination"]["next"].is_string());
        url = answer.body["pagination"]["next"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, ["alpha", "beta", "gamma"]);
    for (query, limit) in [
        ("limit=-2", Value::Null),
        ("limit=0", Value::Null),
        ("limit=x", json!(100)),
        ("limit=20000", json!(10000)),
        ("", json!(100)),
    ] {
        let answer = project.get(&format!("environments?{query}")).await.expect_status(200);
        assert_eq!(answer.body["pagination"]["limit"], limit, "{query}");
        assert_eq!(answer.column("name").len(), 3);
    }
    assert_eq!(names(&h, "marker=m2").await, ["gamma"]);
    assert_eq!(names(&h, "marker=x2").await.len(), 3);
    assert_eq!(names(&h, "marker=m99999999999999999999").await.len(), 3);
}

async fn includes_embed(h: Harness) {
    let made = three(&h).await;
    let project = h.project();
    let body = json!({"name": "web", "environmentId": made[0]["id"], "launchConfig": {"imageUuid": "docker:nginx"}});
    let service = project.create("services", body).await;
    let listed = project.get("environments?include=SERVICES&include=account").await.expect_status(200);
    let first = &listed.body["data"][0];
    assert_eq!(first["services"][0]["id"], service["id"]);
    assert!(first["services"][0]["links"]["self"].is_string());
    assert_eq!(first["account"]["id"], "1a5");
    assert_eq!(listed.body["data"][1]["services"], json!([]));
    assert!(first["links"]["services"].is_string());
    let own = service["links"]["self"].as_str().unwrap();
    let one = project.get(&format!("{own}?include=environment")).await.expect_status(200);
    assert_eq!(one.body["environment"]["name"], "alpha");
    // Filters, sort and limit do not count on child links.
    let id = made[0]["id"].as_str().unwrap();
    let children = project.get(&format!("environments/{id}/services?name=other&limit=0")).await.expect_status(200);
    assert_eq!(children.column("name"), ["web"]);
    assert_eq!(children.body["pagination"], Value::Null);
    assert_eq!(children.body["createDefaults"], json!({"environmentId": id}));
    // A child is made through its parent's link.
    let body = json!({"name": "db", "launchConfig": {"imageUuid": "docker:redis"}});
    let child = project.post(&format!("environments/{id}/services"), body).await.expect_status(201);
    assert_eq!(child.body["environmentId"], id);
    project.post(&format!("environments/{id}/nosuch"), json!({})).await.expect_error(404, "Not Found", None);
    project.post("environments/1e999/services", json!({})).await.expect_error(404, "Not Found", None);
}

async fn envelopes_say_what_was_done(h: Harness) {
    three(&h).await;
    let project = h.project();
    let url = project.url("environments");
    let answer = project.get("environments?name=beta&sort=created&order=desc&limit=7").await.expect_status(200);
    let body = &answer.body;
    assert_eq!((&body["type"], &body["resourceType"]), (&json!("collection"), &json!("environment")));
    assert_eq!(body["links"]["self"], json!(url));
    assert_eq!(body["sort"]["name"], "created");
    assert_eq!(body["sort"]["order"], "desc");
    assert!(body["sort"]["reverse"].as_str().unwrap().contains("order=asc"));
    assert_eq!(body["filters"]["name"], json!([{"value": "beta", "modifier": "eq"}]));
    assert_eq!(body["filters"]["state"], Value::Null);
    assert_eq!(body["sortLinks"]["name"], json!(format!("{url}?name=beta&limit=7&sort=name")));
    assert_eq!((&body["actions"], &body["createDefaults"]), (&json!({}), &json!({})));
    let schema = project.get("schemas/environment").await.body;
    let filters: Vec<_> = schema["collectionFilters"].as_object().unwrap().keys().cloned().collect();
    let named: Vec<_> = body["filters"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(named, filters);
    let projects = h.admin().get("projects").await.expect_status(200).body;
    assert_eq!(
        (&projects["filters"], &projects["sortLinks"], &projects["pagination"]),
        (&json!({}), &json!({}), &Value::Null)
    );
}
