//! A load balancer from compose files on a real Docker Engine, with real HAProxy: rules, a certificate, and changes of
//! both while it runs.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use remuda_testbed::image::{HAPROXY, TESTBOX};
use serde_json::json;

use crate::ride::{Ride, eventually};

const DOCKER: &str = "
edge:
  image: rancher/load-balancer-service
  ports: ['8000:80', '8443:80']
  links: [web, other]
  labels:
    io.rancher.loadbalancer.ssl.ports: '8443'
    io.rancher.loadbalancer.target.other: 'other.test'
web: {image: 'remuda/testbox:1', command: [/bin/serve]}
other: {image: 'remuda/testbox:1', command: [/bin/serve]}
";
const RANCHER: &str = "edge: {default_cert: main}\nweb: {scale: 2}\n";

/// What curl gets of the balancer, for a host name.
fn ask(ride: &Ride, scheme: &str, host: &str) -> Result<String> {
    let port = if scheme == "https" { 8443 } else { 8000 };
    let to = format!("{host}:{port}:{}", ride.host().address);
    let url = format!("{scheme}://{host}:{port}/cgi-bin/hello");
    let out = Command::new("curl").args(["-skf", "-m", "10", "--resolve", &to, &url]).output()?;
    ensure!(out.status.success(), "{}: {out:?}", ride.log("agent"));
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

#[test]
fn a_balancer_from_files_serves_and_changes_while_it_runs() {
    let ride = Ride::start();
    ride.host().load_image(TESTBOX).unwrap();
    ride.host().load_image(HAPROXY).unwrap();
    // The image that the setting names when nobody changed it.
    ride.docker(&["tag", HAPROXY, "haproxy:2.8"]);
    let certificate = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        json!({"name": "main", "cert": made.cert.pem(), "key": made.signing_key.serialize_pem()})
    };
    let main = ride.create("certificates", certificate("web.test"));
    ride.wait_state(&main, "active");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("docker-compose.yml"), DOCKER).unwrap();
    fs::write(dir.path().join("rancher-compose.yml"), RANCHER).unwrap();
    let file = dir.path().join("docker-compose.yml").into_os_string().into_string().unwrap();
    ride.cli(&["-f", &file, "-p", "shop", "up", "-d"]);

    let id = |name: &str| ride.container(name)[..12].to_owned();
    let webs = [id("shop_web_1"), id("shop_web_2")].map(|id| format!("hello from {id}"));
    eventually("both containers of `web`", || {
        let mut told = [ask(&ride, "http", "web.test")?, ask(&ride, "http", "web.test")?];
        told.sort();
        let mut expected = webs.clone();
        expected.sort();
        ensure!(told == expected, "{told:?}");
        Ok(())
    });
    let other = format!("hello from {}", id("shop_other_1"));
    assert_eq!(ask(&ride, "http", "other.test").unwrap(), other);
    // The key came with the host plan, and the server shows the certificate.
    assert_eq!(ask(&ride, "https", "other.test").unwrap(), other);

    // Up again changes nothing.
    let before = ride.running();
    ride.cli(&["-f", &file, "-p", "shop", "up", "-d"]);
    assert_eq!(ride.running(), before);

    // Another rule and another certificate reach the container that runs.
    let services = ride.list("loadbalancerservices", &[("name", "edge")]).unwrap();
    let (web, edge) = (&ride.list("services", &[("name", "web")]).unwrap()[0], &services[0]);
    let links = json!([{"serviceId": web.id(), "ports": ["/cgi-bin"]}]);
    ride.act(edge, "setservicelinks", json!({"serviceLinks": links}));
    eventually("the other rule", || {
        let told = ask(&ride, "http", "other.test")?;
        ensure!(webs.contains(&told), "{told}");
        Ok(())
    });
    assert_eq!(ride.running(), before, "nothing was started again");
    ride.cli(&["rm", "shop", "--force"]);
}
