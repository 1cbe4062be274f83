//! Every documented error has a request that gets it (`api-conventions.md` §11); the table is compared with the codes.

use std::collections::BTreeSet;

use remuda_apitests::{Api, Harness, on_both_stores};
use remuda_schema::Code;
use remuda_schema::types::Type;
use serde_json::{Value, json};

on_both_stores!(every_code_has_a_request, the_order_of_checks_is_the_documented_one);

/// One request and the error it gets.
struct Case<'c> {
    api: &'c Api,
    method: &'static str,
    path: String,
    body: Value,
    status: u16,
    code: &'static str,
    field: Option<&'static str>,
}

async fn every_code_has_a_request(h: Harness) {
    let (project, admin, anyone) = (h.project(), h.admin(), h.anonymous());
    let stack = project.create("environments", json!({"name": "s"})).await;
    let stack_id = stack["id"].as_str().unwrap().to_owned();
    let resting = project.create("containers", json!({"imageUuid": "sim:x"})).await;
    let resting = resting["id"].as_str().unwrap().to_owned();
    let service = |more: Value| {
        let mut body = json!({"name": "n", "environmentId": stack_id, "launchConfig": {"imageUuid": "sim:x"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let container = |more: Value| {
        let mut body = json!({"imageUuid": "sim:x"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let post = |path: &str, body: Value, status, code, field| Case {
        api: &project,
        method: "POST",
        path: path.to_owned(),
        body,
        status,
        code,
        field,
    };
    let cases = vec![
        post("environments", json!({}), 422, "MissingRequired", Some("name")),
        post("containers", container(json!({"ports": [null]})), 422, "NotNullable", Some("ports")),
        post("environments", json!({"name": "s"}), 422, "NotUnique", Some("name")),
        post("containers", container(json!({"labels": "x"})), 422, "InvalidFormat", Some("labels")),
        post("services", service(json!({"environmentId": "1e999"})), 422, "InvalidReference", Some("environmentId")),
        post("services", service(json!({"environmentId": "nonsense"})), 422, "InvalidReference", Some("environmentId")),
        post("containers", container(json!({"networkMode": "x"})), 422, "InvalidOption", Some("networkMode")),
        post("containers", container(json!({"name": "x".repeat(300)})), 422, "MaxLengthExceeded", Some("name")),
        post("services", service(json!({"name": "bad name"})), 422, "InvalidCharacters", Some("name")),
        post("containers", container(json!({"ports": ["1:2:3:4:5"]})), 422, "PortWrongFormat", None),
        post("containers", container(json!({"ports": ["80:80/xyz"]})), 422, "PortInvalidProtocol", None),
        post("containers", container(json!({"ports": ["99999:80"]})), 422, "PortInvalidPublicPort", None),
        post("containers", container(json!({"ports": ["80:99999"]})), 422, "PortInvalidPrivatePort", None),
        post(&format!("environments/{stack_id}/?action=nosuch"), json!({}), 422, "InvalidAction", Some("action")),
        post(&format!("containers/{resting}/?action=restore"), json!({}), 422, "ActionNotAvailable", Some("action")),
        post("environments/1e999/?action=remove", json!({}), 404, "Not Found", None),
        Case {
            api: &admin,
            method: "GET",
            path: "/v12".into(),
            body: Value::Null,
            status: 422,
            code: "UnsupportedVersion",
            field: None,
        },
        Case {
            api: &anyone,
            method: "GET",
            path: "accounts".into(),
            body: Value::Null,
            status: 401,
            code: "Unauthorized",
            field: None,
        },
        Case {
            api: &admin,
            method: "GET",
            path: "/v1/projects/1a99/hosts".into(),
            body: Value::Null,
            status: 403,
            code: "Forbidden",
            field: None,
        },
        Case {
            api: &admin,
            method: "GET",
            path: "accounts/1a999".into(),
            body: Value::Null,
            status: 404,
            code: "Not Found",
            field: None,
        },
        Case {
            api: &admin,
            method: "PATCH",
            path: "accounts".into(),
            body: Value::Null,
            status: 405,
            code: "Method not allowed",
            field: None,
        },
        Case {
            api: &admin,
            method: "GET",
            path: "identities/1i!github_user:1".into(),
            body: Value::Null,
            status: 400,
            code: "invalidIdentityType",
            field: None,
        },
        Case {
            api: &admin,
            method: "GET",
            path: "identities/1i!rancher_id:1a99".into(),
            body: Value::Null,
            status: 404,
            code: "identityNotFound",
            field: None,
        },
        Case {
            api: &admin,
            method: "DELETE",
            path: "accounts/1a1".into(),
            body: Value::Null,
            status: 405,
            code: "LastAdminAccount",
            field: None,
        },
    ];
    let mut cases = cases;
    h.hosts(1).await;
    let gone = project.create("environments", json!({"name": "gone"})).await;
    project.delete(&format!("environments/{}", gone["id"].as_str().unwrap())).await.expect_status(200);
    project.wait_state(&gone, &["removed"]).await;
    let up = project.create("services", service(json!({"name": "up", "startOnCreate": true}))).await;
    project.wait_state(&up, &["active"]).await;
    let upgrade = json!({"inServiceStrategy": {"batchSize": 0, "launchConfig": {"imageUuid": "sim:y"}}});
    // No host has that label: it goes on activating.
    let labels = json!({"io.rancher.scheduler.affinity:host_label": "no=where"});
    let waits = json!({"name": "waits", "startOnCreate": true,
                       "launchConfig": {"imageUuid": "sim:x", "labels": labels}});
    let waits = project.create("services", service(waits)).await;
    project.wait_state(&waits, &["activating"]).await;
    let own = |row: &Value| format!("services/{}", row["id"].as_str().unwrap());
    cases.extend([
        post("containers", container(json!({"user": ""})), 422, "MinLengthExceeded", Some("user")),
        post("containers", container(json!({"count": 1_000_000})), 422, "MaxLimitExceeded", Some("count")),
        post("services", service(json!({"environmentId": gone["id"]})), 422, "InvalidState", Some("environment")),
        post(&format!("{}?action=upgrade", own(&up)), upgrade, 422, "MinLimitExceeded", Some("batchSize")),
        Case { method: "PUT", ..post(&own(&waits), json!({"scale": 2}), 409, "Conflict", None) },
        post("environments", Value::String("x".repeat(5 << 20)), 413, "Request Entity Too Long", None),
        post("environments", json!({"name": "\u{0}"}), 400, "InvalidBodyContent", None),
    ]);
    let browser = project.header("user-agent", "Mozilla/5.0").header("accept", "application/json");
    let browser = browser.header("cookie", "CSRF=a").header("x-api-csrf", "b");
    let half = project.header("connection", "upgrade").header("upgrade", "websocket");
    cases.extend([
        Case { api: &browser, ..post("environments", json!({"name": "t"}), 403, "InvalidCSRFToken", None) },
        Case { api: &half, method: "GET", ..post("subscribe?eventNames=ping", Value::Null, 400, "Bad Request", None) },
    ]);
    let mut visited: BTreeSet<&str> = BTreeSet::new();
    for case in cases {
        let body = (!case.body.is_null()).then(|| case.body.to_string().into_bytes());
        let answer = case.api.send(case.method, &case.path, body).await;
        let found = (answer.status, answer.body["code"].as_str(), answer.body["fieldName"].as_str());
        assert_eq!(found, (case.status, Some(case.code), case.field), "{} {}: {answer:?}", case.method, case.path);
        assert_eq!(answer.body["status"], case.status);
        visited.insert(case.code);
    }
    h.database_away();
    let code = "Service Unavailable";
    project.post("environments", json!({"name": "t"})).await.expect_error(503, code, None);
    visited.insert(code);

    let answered: BTreeSet<&str> = Code::ALL.iter().map(|code| code.table().0).collect();
    let unasked: BTreeSet<&str> = UNASKED.iter().map(|(code, _)| code.table().0).collect();
    let expected: BTreeSet<&str> = answered.difference(&unasked).copied().collect();
    assert_eq!(visited, expected, "a code without a request that gets it, or one that can be asked for after all");
    let registry = remuda_model::registry();
    let dates = registry.types().flat_map(|ty| ty.fields.iter().map(move |field| (ty.name, field)));
    let writable: Vec<_> =
        dates.filter(|(_, field)| field.ty == Type::Date && (field.create || field.update)).collect();
    assert!(writable.is_empty(), "`InvalidDateFormat` can be asked for: {writable:?}");
}

/// Codes that no request gets, and why.
const UNASKED: &[(Code, &str)] = &[
    (Code::InternalServerError, "a fault of ours"),
    (Code::InvalidDateFormat, "no date is written by clients, which the test sees"),
    (
        Code::CantVerifyAgent,
        "who is no agent may not report events at all; the code guards against a key without its agent",
    ),
    (Code::CantVerifyHealthcheck, "only an agent's key gets that far; `health.rs` has one and asks"),
    (Code::InvalidPort, "only a rule of a balancer gets it; `load_balancers.rs` makes one and asks"),
];

async fn the_order_of_checks_is_the_documented_one(h: Harness) {
    let project = h.project();
    // Undecodable id, then unknown type, then action, then method, then fields.
    project.put("nosuch/5", json!({})).await.expect_error(404, "Not Found", None);
    project.put("environments/5", json!({})).await.expect_error(404, "Not Found", None);
    project.post("networks", json!({"name": "x".repeat(999)})).await.expect_error(405, "Method not allowed", None);
    project.post("networks/1n1/?action=nosuch", json!({})).await.expect_error(422, "InvalidAction", Some("action"));
    project.put("networks/1n1", json!({"name": "x"})).await.expect_error(405, "Method not allowed", None);
    // Of two wrong fields the first by name is told; unknown and unwritable ones are no mistake.
    let body = json!({"nosuch": 1, "state": "active", "accountId": "1a1", "labels": 1, "capAdd": ["x"]});
    project.post("containers", body).await.expect_error(422, "InvalidFormat", Some("labels"));
    project.post("containers", json!({"nosuch": 1})).await.expect_error(422, "MissingRequired", Some("imageUuid"));
}
