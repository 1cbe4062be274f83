//! Certificates (`resources-infra.md` §5.4).

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use remuda_apitests::{Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    a_certificate_is_read_and_its_key_is_nowhere,
    what_does_not_fit_is_refused,
    a_change_is_held_against_what_stays,
    a_name_is_one_projects
);

/// A certificate of its own, and its key.
pub fn certificate(name: &str, last_year: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2016, 4, 4);
    params.not_after = date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
}

fn own(row: &Value) -> &str {
    row["links"]["self"].as_str().expect("a link to itself")
}

async fn a_certificate_is_read_and_its_key_is_nowhere(h: Harness) {
    let project = h.project();
    let (cert, key) = certificate("www.a.test", 2099);
    let body = json!({"name": "main", "description": "d", "cert": cert, "key": key, "certChain": cert});
    let made = project.post("certificates", body).await.expect_status(201);
    assert_eq!(made.body["state"], "activating");
    let row = project.wait_state(&made.body, &["active"]).await;
    assert!(row["id"].as_str().is_some_and(|id| id.starts_with("1c")), "{row}");
    for (field, expected) in [
        ("CN", json!("www.a.test")),
        ("issuer", json!("CN=www.a.test")),
        ("issuedAt", json!("Mon Apr 04 00:00:00 UTC 2016")),
        ("expiresAt", json!("Thu Jan 01 00:00:00 UTC 2099")),
        ("version", json!("3")),
        ("algorithm", json!("SHA256WITHECDSA")),
        ("keySize", Value::Null),
        ("subjectAlternativeNames", json!(["www.a.test"])),
        ("cert", json!(cert)),
        ("certChain", json!(cert)),
        ("transitioning", json!("no")),
    ] {
        assert_eq!(row[field], expected, "{field}");
    }
    let secret = key.lines().nth(1).expect("a key has lines");
    let replaced = project.put(own(&row), json!({"key": key, "cert": cert})).await.expect_status(200);
    for shown in [made.text.as_str(), replaced.text.as_str()] {
        assert!(!shown.contains(secret) && !shown.contains("ealedKey"), "{shown}");
    }
    for path in ["certificates", "certificates?key_notnull=", "auditlogs?limit=100"] {
        let told = h.admin().inside("1a5").get(path).await;
        assert!(!told.text.contains(secret), "{path}");
    }
    let records = h.store.read(|read| {
        read.list_any(
            remuda_model::registry().get("auditLog").expect("declared"),
            &remuda_store::Scope::Everything,
            &remuda_store::Query::new().all(),
        )
    });
    let records: Result<_, remuda_store::Error> = records.await;
    assert!(!format!("{:?}", records.expect("read")).contains(secret), "in an audit record");

    project.delete(own(&row)).await.expect_status(200);
    project.wait_state(&row, &["removed"]).await;
}

async fn what_does_not_fit_is_refused(h: Harness) {
    let project = h.project();
    let ((cert, key), (_, other)) = (certificate("a.test", 2099), certificate("b.test", 2099));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (body, code, field, words) in [
        (json!({"name": "n", "key": key}), "MissingRequired", Some("cert"), ""),
        (json!({"name": "n", "cert": cert}), "MissingRequired", Some("key"), ""),
        (json!({"cert": cert, "key": key}), "MissingRequired", Some("name"), ""),
        (json!({"name": "n", "cert": "x", "key": key}), "InvalidFormat", None, "holds no certificate"),
        (json!({"name": "n", "cert": cert, "key": "x"}), "InvalidFormat", None, "no private key"),
        (json!({"name": "n", "cert": cert, "key": other}), "InvalidFormat", None, "does not belong"),
        (json!({"name": "n", "cert": cert, "key": encrypted}), "InvalidFormat", None, "is encrypted"),
        (json!({"name": "n", "cert": cert, "key": key, "certChain": "x"}), "InvalidFormat", None, "`certChain`"),
    ] {
        let answer = project.post("certificates", body.clone()).await;
        let message = answer.body["message"].to_string();
        assert!(message.contains(words), "{message}");
        answer.expect_error(422, code, field);
    }
    // One that has ended is taken, and says so.
    let (cert, key) = certificate("old.test", 2020);
    let made = project.create("certificates", json!({"name": "old", "cert": cert, "key": key})).await;
    let row = project.wait_state(&made, &["active"]).await;
    let told = (&row["transitioning"], &row["transitioningMessage"]);
    assert_eq!(told, (&json!("error"), &json!("the certificate ended on Wed Jan 01 00:00:00 UTC 2020")));
    let metrics = h.anonymous().get(&format!("{}/metrics", h.url)).await.text;
    let expected =
        format!("remuda_certificate_expiry_seconds{{certificate=\"{}\"}} 1577836800", row["id"].as_str().unwrap());
    assert!(metrics.contains(&expected), "{metrics}");
}

async fn a_change_is_held_against_what_stays(h: Harness) {
    let project = h.project();
    let ((cert, key), (other_cert, other_key)) = (certificate("a.test", 2099), certificate("b.test", 2050));
    let made = project.create("certificates", json!({"name": "main", "cert": cert, "key": key})).await;
    let row = project.wait_state(&made, &["active"]).await;
    let put = async |body: Value| project.put(own(&row), body).await;
    let put_fine = async |body: Value| {
        let changed = put(body).await.expect_status(200);
        project.wait_state(&changed.body, &["active"]).await
    };
    put_fine(json!({"description": "only that"})).await;
    put(json!({"cert": other_cert})).await.expect_error(422, "InvalidFormat", None);
    put(json!({"key": other_key})).await.expect_error(422, "InvalidFormat", None);
    // One that signed itself needs no issuer in its chain.
    put_fine(json!({"certChain": other_cert})).await;
    let both = put_fine(json!({"cert": other_cert, "key": other_key, "certChain": null})).await;
    assert_eq!((&both["CN"], &both["certChain"]), (&json!("b.test"), &Value::Null));
    // The sealed key is the new one: the certificate alone fits it.
    put_fine(json!({"cert": other_cert})).await;
}

async fn a_name_is_one_projects(h: Harness) {
    let project = h.project();
    let (cert, key) = certificate("a.test", 2099);
    let body = |name: &str| json!({"name": name, "cert": cert, "key": key});
    project.create("certificates", body("main")).await;
    let second = project.create("certificates", body("second")).await;
    project.post("certificates", body("main")).await.expect_error(422, "NotUnique", Some("name"));
    let second = project.wait_state(&second, &["active"]).await;
    project.put(own(&second), json!({"name": "main"})).await.expect_error(422, "NotUnique", Some("name"));
    project.put(own(&second), json!({"name": "second"})).await.expect_status(200);
    let other = h.admin().create("projects", json!({"name": "other"})).await;
    let other = h.admin().wait_state(&other, &["active"]).await;
    h.admin().inside(other["id"].as_str().unwrap()).create("certificates", body("main")).await;
}
