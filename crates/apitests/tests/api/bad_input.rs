//! Nothing a client sends is answered with a 500 or leaves half a resource behind.

use remuda_apitests::{Harness, on_both_stores};
use serde_json::{Map, Value, json};

on_both_stores!(
    bodies_are_refused_with_their_error,
    every_field_survives_every_kind_of_value,
    queries_never_fail,
    long_lists_are_answered,
);

async fn bodies_are_refused_with_their_error(h: Harness) {
    let project = h.project();
    let post = async |body: Vec<u8>| project.send("POST", "environments", Some(body)).await;
    for body in [
        b"{".to_vec(),
        b"{\"name\":\"\xff\"}".to_vec(),
        b"{\"name\":\"a\\u0000b\"}".to_vec(),
        b"hello".to_vec(),
        b"<xml/>".to_vec(),
        [b"{\"a\":".repeat(5000), b"1".to_vec(), b"}".repeat(5000)].concat(),
        [b"[".repeat(100_000), b"]".repeat(100_000)].concat(),
    ] {
        post(body).await.expect_error(400, "InvalidBodyContent", None);
    }
    post(vec![b' '; 5 * 1024 * 1024]).await.expect_error(413, "Request Entity Too Long", None);
    // Malformed input comes before everything else that is wrong.
    let anyone = h.anonymous();
    anyone.send("POST", "nosuch", Some(b"{".to_vec())).await.expect_error(400, "InvalidBodyContent", None);
    anyone.send("POST", "nosuch", Some(b"{}".to_vec())).await.expect_error(401, "Unauthorized", None);
    assert_eq!(project.get("environments").await.column("id").len(), 0);
    // Lists and scalars are empty objects; so is nothing.
    for body in ["[{\"name\":\"a\"}]", "1", "null", ""] {
        post(body.as_bytes().to_vec()).await.expect_error(422, "MissingRequired", Some("name"));
    }
}

/// Values that no field expects all of.
fn odd_values() -> Vec<Value> {
    let deep = (0..60).fold(json!(1), |inner, _| json!([inner]));
    vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(9_223_372_036_854_775_807_i64),
        json!(1e300),
        json!(""),
        json!("é'\"\\%_;--"),
        json!("1i99999"),
        json!("1!"),
        json!("x".repeat(5000)),
        json!([]),
        json!([null]),
        json!([[], {}]),
        json!({}),
        json!({"": null}),
        json!({"a": {"b": ["c"]}}),
        deep,
    ]
}

/// Each writable field of each type gets each odd value, alone and beside what the type requires.
async fn every_field_survives_every_kind_of_value(h: Harness) {
    let project = h.project();
    let stack = project.create("environments", json!({"name": "base"})).await;
    let requirements = |ty: &str| match ty {
        "container" => json!({"imageUuid": "sim:x"}),
        "service" => json!({"name": "n", "environmentId": stack["id"], "launchConfig": {"imageUuid": "sim:x"}}),
        "environment" => json!({"name": "n"}),
        "volume" => json!({"name": "n", "driver": "local"}),
        _ => json!({}),
    };
    let schemas = remuda_model::registry().schemas(remuda_schema::Role::Project);
    let mut n_sent = 0;
    // A subscription is answered without end.
    let creatable = schemas.iter().filter(|schema| schema.collection_allows("POST") && schema.name != "subscribe");
    for schema in creatable {
        let Value::Object(required) = requirements(schema.name) else { continue };
        for field in schema.fields.values().filter(|field| field.create) {
            for value in odd_values() {
                let mut body: Map<String, Value> = required.clone();
                body.insert(field.name.to_owned(), value.clone());
                let answer = project.post(&schema.plural, Value::Object(body)).await;
                assert!(answer.status < 500, "{}.{} = {value}: {answer:?}", schema.name, field.name);
                n_sent += 1;
            }
        }
    }
    assert!(n_sent > 1000, "{n_sent}");
}

async fn queries_never_fail(h: Harness) {
    let project = h.project();
    let schemas = remuda_model::registry().schemas(remuda_schema::Role::Project);
    let values = [
        "",
        "%00",
        "%FF",
        "1i1",
        "x",
        "-1",
        "99999999999999999999",
        "%27%22",
        "%25%5C",
        "<nil>",
        "true",
        "2016-01-01T00:00:00Z",
    ];
    for schema in schemas.iter().filter(|schema| schema.collection_allows("GET")) {
        let mut query: Vec<String> = Vec::new();
        for (name, filter) in &schema.filters {
            for modifier in filter.modifiers {
                for value in values {
                    query.push(format!("{name}_{modifier}={value}"));
                }
            }
        }
        // One by one would take minutes; a list fails as a whole if any part does.
        for part in query.chunks(100) {
            let answer = project.get(&format!("{}?{}", schema.plural, part.join("&"))).await;
            assert_eq!(answer.status, 200, "{}: {answer:?}", schema.name);
        }
        for odd in
            ["sort=%00", "marker=m-1&limit=-99999999999999999999", "include=%00&order=%FF", "limit=1e9&_format=xml"]
        {
            let answer = project.get(&format!("{}?{odd}", schema.plural)).await;
            assert_eq!(answer.status, 200, "{} {odd}: {answer:?}", schema.name);
        }
        for id in ["%00", "1", "", "..", "1i", "%2F", "1i99999999999999999999", "-1", "1!x", "%FF"] {
            let answer = project.get(&format!("{}/{id}?x", schema.plural)).await;
            assert!(matches!(answer.status, 200 | 400 | 404), "{}/{id}: {answer:?}", schema.name);
        }
    }
    let long = format!("environments?name={}", "x".repeat(16 * 1024));
    project.get(&long).await.expect_status(200);
}

async fn long_lists_are_answered(h: Harness) {
    let project = h.project();
    let many: Vec<Value> = (0..10_000).map(|idx| json!(format!("1i{idx}"))).collect();
    let labels: Map<String, Value> = (0..10_000).map(|idx| (format!("l{idx}"), json!("v"))).collect();
    for body in [
        json!({"imageUuid": "sim:x", "dataVolumesFrom": many}),
        json!({"imageUuid": "sim:x", "ports": many}),
        json!({"imageUuid": "sim:x", "command": many}),
        json!({"imageUuid": "sim:x", "capAdd": many}),
        json!({"imageUuid": "sim:x", "environment": labels}),
        json!({"imageUuid": "sim:x", "count": 1_000_000_000}),
    ] {
        let answer = project.post("containers", body).await;
        assert!(answer.status < 500, "{}", &answer.text[..answer.text.len().min(500)]);
    }
    let members: Vec<Value> = (0..10_000)
        .map(|idx| json!({"externalId": format!("1a{idx}"), "externalIdType": "rancher_id", "role": "owner"}))
        .collect();
    let answer = h.admin().post("projects/1a5/?action=setmembers", json!({"members": members})).await;
    assert!(answer.status < 500, "{}", &answer.text[..answer.text.len().min(500)]);
}
