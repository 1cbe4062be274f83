//! Requests: path, query and body, up to the checked fields of every type a caller may create or change.

use std::collections::BTreeSet;

use remuda_schema::access::Role;
use remuda_schema::input::{self, Operation, References};
use remuda_server::body;
use remuda_server::request::{self, Query};

use crate::fuzz;

const ROLES: [Role; 3] = [Role::Project, Role::Admin, Role::Register];

/// Every reference that could be one leads somewhere: what is behind it is checked too.
struct Everything;

impl References for Everything {
    fn resolve(&mut self, _: &str, public_id: &str) -> Option<i64> {
        public_id.trim_start_matches(|c: char| !c.is_ascii_digit()).get(1..)?.parse().ok()
    }
}

#[test]
fn bodies_are_read_or_refused_and_never_add_fields() {
    fuzz(
        &[
            br#"{"name":"web","imageUuid":"docker:nginx:1.9","command":["a","b"],"ports":["8080:80/tcp"],"environment":{"A":"1"}}"#,
            br#"{"name":"web","environmentId":"1e5","scale":2,"launchConfig":{"imageUuid":"sim:x","labels":{"a":"b"},"healthCheck":{"port":80}}}"#,
            br#"{"restartPolicy":{"name":"on-failure","maximumRetryCount":3},"privileged":true,"memory":67108864,"requestedHostId":"1h1"}"#,
            br#"{"instanceLinks":{"db":"1i5"},"dataVolumes":["/a:/b:ro"],"logConfig":{"driver":"json-file","config":{}}}"#,
            br#"{"members":[{"externalId":"1","externalIdType":"rancher_id","role":"owner"}],"servicesPortRange":{"startPort":1,"endPort":2}}"#,
            br#"[1,2,{"a":null}]"#,
            b"name=web&imageUuid=sim%3Ax&command=a&command=b&_method=PUT",
            b"--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nweb\r\n--x--\r\n",
            b"",
        ],
        &["{", "[", "\"", "{\"a\":", "[[[[", "null", "1e999", "-1", "9223372036854775808", "true", "\\u0000", "\\ud800", "%", "%00", "&", "=", "--x", "\r\n", "1i5", "é"],
        |bytes| {
            for content_type in [None, Some("application/x-www-form-urlencoded"), Some("multipart/form-data; boundary=x")] {
                let Ok(body) = body::parse(content_type, bytes) else { continue };
                for role in ROLES {
                    let schemas = remuda_model::registry().schemas(role);
                    for schema in schemas.iter() {
                        for operation in [Operation::Create, Operation::Update] {
                            let Ok(read) = input::read(schemas, schema.name, operation, &body.fields, &mut Everything) else {
                                continue;
                            };
                            let writable: BTreeSet<&str> = schema
                                .fields
                                .values()
                                .filter(|field| if operation == Operation::Create { field.create } else { field.update })
                                .map(|field| field.name)
                                .collect();
                            let beyond: Vec<_> = read.keys().filter(|name| !writable.contains(name.as_str())).collect();
                            assert!(beyond.is_empty(), "{} took {beyond:?}", schema.name);
                        }
                    }
                }
            }
        },
    );
}

#[test]
fn paths_and_queries_are_read_whatever_they_are() {
    fuzz(
        &[
            b"/v1/projects/1a5/containers/1i7/logs?limit=10&sort=name&order=desc&name_like=%25web%25",
            b"/v1/scripts/1234:5678:abcd",
            b"/v1//Containers///?removed_null=%3Cnil%3E&state_ne=a&state_ne=b",
            b"/v1-catalog/templates?_method=DELETE",
            b"/",
        ],
        &["/", "//", "%2f", "%", "%zz", "%00", "?", "&", "=", "+", "..", "v1", "projects", "\u{fffd}"],
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let (path, query) = text.split_once('?').unwrap_or((&text, ""));
            request::target(path);
            let query = Query::parse(query);
            // What is written into links is read back as the same parameters.
            assert_eq!(Query::parse(query.suffix().trim_start_matches('?')), query);
            let decoded = request::percent_decode(path);
            assert_eq!(request::percent_decode(&request::percent_encode(&decoded)), decoded);
        },
    );
}
