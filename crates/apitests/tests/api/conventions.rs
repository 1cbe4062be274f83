//! URL forms, envelopes, headers, negotiation (`api-conventions.md` §§1, 4, 5, 6, 12).

use remuda_apitests::{Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    paths_have_many_spellings,
    every_answer_tells_where_the_schemas_are,
    resources_have_their_envelope,
    projects_prefix_every_url,
    the_base_url_follows_the_proxy,
    browsers_get_pages,
    compression_is_asked_for,
    plain_ids_are_for_administrators,
    methods_can_be_overridden,
);

async fn paths_have_many_spellings(h: Harness) {
    let project = h.project();
    for path in ["networks", "network", "NETWORKS", "networks/", "/v1//projects/1A5///networks"] {
        let answer = project.get(path).await.expect_status(200);
        assert_eq!(answer.body["resourceType"], "network", "{path}");
        assert_eq!(answer.body["data"].as_array().map(Vec::len), Some(5), "{path}");
    }
    let admin = h.admin();
    for path in ["/v1", "/v1/", "//v1"] {
        assert_eq!(admin.get(path).await.expect_status(200).body["type"], "apiVersion", "{path}");
    }
    let root = admin.get("/").await.expect_status(200);
    assert_eq!((&root.body["resourceType"], &root.body["data"][0]["id"]), (&json!("apiVersion"), &json!("v1")));
    admin.get("/v10/x").await.expect_error(422, "UnsupportedVersion", None);
    admin.get("nosuchtypes").await.expect_error(404, "Not Found", None);
    h.anonymous().get("nosuchtypes").await.expect_error(401, "Unauthorized", None);
    project.get("schemas/schemas").await.expect_status(200);
    project.get("schemas/ENVIRONMENTS").await.expect_status(200);
    admin.get("projects/1a5/projectmembers").await.expect_status(200);
    admin.get("projects/1a5/projects/1a5").await.expect_status(200);
    assert!(admin.get("/v2-beta").await.expect_status(200).text.starts_with("<!DOCTYPE html>"));
    assert_eq!(h.anonymous().get("/ping").await.expect_status(200).text, "pong");
    assert_eq!(h.anonymous().get("/healthcheck").await.expect_status(200).body["database"]["healthy"], true);
    assert!(h.anonymous().get("/metrics").await.expect_status(200).text.contains("remuda_api_requests_total"));
}

async fn every_answer_tells_where_the_schemas_are(h: Harness) {
    let schemas = format!("{}/v1/schemas", h.url);
    for answer in [
        h.admin().get("/v1").await,
        h.admin().get("accounts/1a999").await,
        h.anonymous().get("accounts").await,
        h.admin().send("POST", "accounts", Some(b"{".to_vec())).await,
        h.admin().send("PATCH", "accounts", None).await,
    ] {
        assert_eq!(answer.header("x-api-schemas"), Some(schemas.as_str()), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"), "{answer:?}");
        assert_eq!(answer.header("x-api-client-ip"), Some("127.0.0.1"));
    }
    assert_eq!(h.admin().get("/v1").await.header("x-api-account-id"), Some("1a1"));
    assert_eq!(h.project().get("hosts").await.header("x-api-account-id"), Some("1a5"));
    let challenge = h.anonymous().get("accounts").await;
    assert!(challenge.header("www-authenticate").is_some_and(|value| value.starts_with("Basic ")));
    let quiet = h.anonymous().header("X-API-No-Challenge", "true").get("accounts").await;
    assert_eq!((quiet.status, quiet.header("www-authenticate")), (401, None));
}

async fn resources_have_their_envelope(h: Harness) {
    let project = h.project();
    let stack = project.create("environments", json!({"name": "web", "unknown": 1, "id": "1e77", "state": "x"})).await;
    assert_eq!(stack["type"], "environment");
    assert_ne!(stack["id"], "1e77");
    assert_eq!(stack["accountId"], "1a5");
    let own = stack["links"]["self"].as_str().unwrap();
    assert_eq!(own, format!("{}/v1/projects/1a5/environments/{}", h.url, stack["id"].as_str().unwrap()));
    let read = project.get(own).await.expect_status(200);
    let positions: Vec<_> =
        ["\"id\":", "\"type\":", "\"links\":", "\"actions\":", "\"name\":", "\"state\":", "\"accountId\":"]
            .iter()
            .map(|key| read.text.find(key))
            .collect();
    assert!(positions.is_sorted(), "{}", read.text);
    assert!(read.body["createdTS"].is_i64() && read.body.get("removedTS").is_none());
    assert!(read.body["created"].as_str().unwrap().ends_with('Z'));
    assert_eq!(read.body["removed"], Value::Null);
    let schema = project.get("schemas/environment").await.body;
    for (name, field) in schema["resourceFields"].as_object().unwrap() {
        assert!(read.body.get(name).is_some(), "{name} is missing");
        assert!(field["create"].is_boolean() && field["type"].is_string());
    }
    for (name, url) in read.body["links"].as_object().unwrap() {
        assert_eq!(url.as_str().unwrap().to_lowercase(), url.as_str().unwrap(), "{name}");
        project.get(url.as_str().unwrap()).await.expect_status(200);
    }
    project.get(&format!("{own}/nosuchlink")).await.expect_error(404, "Not Found", None);
    project.get(&format!("{own}/SERVICES")).await.expect_status(200);
}

async fn projects_prefix_every_url(h: Harness) {
    let prefix = format!("{}/v1/projects/1a5", h.url);
    let version = h.project().get("/v1/projects/1a5").await;
    assert_eq!(version.body["type"], "project");
    let schemas = h.project().get("schemas").await;
    assert_eq!(schemas.header("x-api-schemas"), Some(format!("{prefix}/schemas").as_str()));
    for schema in schemas.body["data"].as_array().unwrap() {
        for url in schema["links"].as_object().unwrap().values() {
            assert!(url.as_str().unwrap().starts_with(&prefix), "{url}");
        }
        let lists = schema["collectionMethods"].as_array().unwrap().contains(&json!("GET"));
        assert_eq!(schema["links"].get("collection").is_some(), lists, "{}", schema["id"]);
    }
    // The same by header and by query.
    for api in [h.admin().header("X-API-Project-Id", "1a5"), h.admin()] {
        let answer = api.get("networks?projectId=1a5").await.expect_status(200);
        assert_eq!(answer.header("x-api-account-id"), Some("1a5"));
        assert!(answer.body["links"]["self"].as_str().unwrap().ends_with("/v1/networks"));
    }
    for bad in ["1a999", "1a2", "nonsense", "5"] {
        h.admin().inside(bad).get("networks").await.expect_error(403, "Forbidden", None);
    }
}

async fn the_base_url_follows_the_proxy(h: Harness) {
    let proxied = h.admin().header("X-Forwarded-Proto", "https").header("X-Forwarded-Host", "Rancher.Example:444");
    let answer = proxied.get("/v1").await.expect_status(200);
    assert_eq!(answer.body["links"]["self"], "https://rancher.example:444/v1");
    assert_eq!(answer.header("x-api-schemas"), Some("https://rancher.example:444/v1/schemas"));
}

async fn browsers_get_pages(h: Harness) {
    let browser = h.admin().header("User-Agent", "Mozilla/5.0 (X11)");
    let page = browser.header("Accept", "text/html,*/*").get("projects/1a5").await.expect_status(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    assert!(page.text.contains("/v1/projects/1a5/networks"));
    let json = browser.header("Accept", "application/json").get("projects/1a5").await;
    assert_eq!(json.body["type"], "project");
    let json = browser.header("Accept", "*/*").get("projects/1a5?_format=json").await;
    assert_eq!(json.body["type"], "project");
    let cookies: Vec<_> = json.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    let csrf = cookies.iter().find_map(|cookie| cookie.strip_prefix("CSRF=")).expect("a CSRF cookie");
    let csrf = csrf.split(';').next().unwrap();
    assert_eq!(csrf.len(), 32);
    let carrying = browser.header("Accept", "application/json").header("Cookie", &format!("CSRF={csrf}; x=y"));
    carrying.post("apikeys", json!({})).await.expect_error(403, "InvalidCSRFToken", None);
    carrying.header("X-API-CSRF", csrf).post("apikeys", json!({})).await.expect_status(201);
    carrying.get("apikeys").await.expect_status(200);
    // A link on some page must not become a write.
    let ids = carrying.get("apikeys").await.column("id");
    browser.get(&format!("apikeys/{}?_method=DELETE", ids[0].as_str().unwrap())).await.expect_status(200);
    assert_eq!(carrying.get("apikeys").await.column("id"), ids);
}

async fn compression_is_asked_for(h: Harness) {
    let plain = h.admin().get("schemas").await.expect_status(200);
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.header("content-length").unwrap(), plain.text.len().to_string());
    let packed = h.admin().header("Accept-Encoding", "gzip").get("schemas").await.expect_status(200);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let length: usize = packed.header("content-length").unwrap().parse().unwrap();
    assert!(length * 4 < plain.text.len());
}

async fn plain_ids_are_for_administrators(h: Harness) {
    let bare = h.admin().get("projects/1a5?_plainId=true").await.expect_status(200);
    assert_eq!(bare.body["id"], "5");
    let key = h.project().create("apikeys", json!({})).await;
    assert_eq!(key["accountId"], "1a5");
    let scoped = h.project().get("networks?_plainId=true&limit=1").await;
    assert_eq!(scoped.column("id")[0], "1n1", "project scope has no such capability");
}

async fn methods_can_be_overridden(h: Harness) {
    let admin = h.admin();
    admin.post("settings?_method=GET", json!({})).await.expect_status(200);
    let setting = admin.create("settings", json!({"name": "a.b", "value": "1"})).await;
    let own = setting["links"]["self"].as_str().unwrap().to_owned();
    let body = Some(b"_method=PUT&value=2".to_vec());
    admin.send("POST", &own, body).await.expect_status(200);
    assert_eq!(admin.get("settings/a.b").await.body["value"], "2");
    for method in ["HEAD", "OPTIONS", "PATCH"] {
        assert_eq!(admin.send(method, "accounts", None).await.status, 405, "{method}");
    }
}
