//! Health checks on three hosts with a Docker Engine each: others check over the managed network, what hangs is
//! replaced, one host that sees nothing changes nothing, and names follow at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use remuda_testbed::image::TESTBOX_CURL;
use remuda_testbed::{Fleet, wait};
use serde_json::{Value, json};

const BIN: &str = env!("CARGO_BIN_EXE_remuda");
/// Only a bug takes this long.
const LIMIT: Duration = Duration::from_secs(90);

fn eventually<T>(what: &str, probe: impl FnMut() -> Result<T>) -> T {
    wait::until(what, LIMIT, probe).unwrap()
}

/// Containers of the service that run: name, id, host, Docker's id, address, health.
fn members(fleet: &Fleet) -> Result<Vec<Value>> {
    let mut rows = fleet.list("containers?state=running&name_like=checked_web_%25")?;
    rows.sort_by_key(|row| row["name"].to_string());
    Ok(rows)
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

/// Which of the testbed's hosts has that id.
fn host_idx(fleet: &Fleet, id: &str) -> usize {
    (0..3).find(|idx| fleet.host_row(*idx).unwrap()["id"] == id).unwrap()
}

/// What the name of the service gives to a container of that host; the server is not asked.
fn resolved(fleet: &Fleet, (host_idx, asker): (usize, &Value)) -> Result<BTreeSet<String>> {
    let host = fleet.host(host_idx);
    let found = host.docker(&["exec", text(asker, "externalId"), "getent", "ahostsv4", "web"])?;
    Ok(found.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

#[test]
fn what_hangs_is_replaced_and_names_follow() {
    let fleet = Fleet::start(Path::new(BIN), 3).unwrap();
    fleet.bed.load_image(TESTBOX_CURL).unwrap();
    let check = json!({"port": 80, "requestLine": "GET / HTTP/1.0", "interval": 500, "responseTimeout": 500,
                       "healthyThreshold": 1, "unhealthyThreshold": 3});
    let stack = fleet.api("POST", "environments", &json!({"name": "checked"})).unwrap();
    let service = |name: &str, scale: u64, config: Value| {
        let body = json!({"name": name, "environmentId": stack["id"], "scale": scale, "startOnCreate": true,
                          "launchConfig": config});
        fleet.api("POST", "services", &body).unwrap()
    };
    let image = format!("docker:{TESTBOX_CURL}");
    service("ask", 1, json!({"imageUuid": image, "command": ["/bin/rest"]}));
    let web = service("web", 2, json!({"imageUuid": image, "command": ["/bin/serve"], "healthCheck": check}));
    let is_well = || -> Result<Vec<Value>> {
        let row = fleet.api("GET", &format!("services/{}", text(&web, "id")), &Value::Null)?;
        let rows = members(&fleet)?;
        let maps = fleet.list("healthcheckinstancehostmaps?state=active")?;
        anyhow::ensure!(row["healthState"] == "healthy" && rows.len() == 2, "{row} {maps:?}");
        Ok(rows)
    };
    let before = eventually("two healthy containers", is_well);
    let asker = fleet.list("containers?state=running&name=checked_ask_1").unwrap().remove(0);
    let asker = (host_idx(&fleet, text(&asker, "hostId")), &asker);
    let addresses = |rows: &[Value]| rows.iter().map(|row| text(row, "primaryIpAddress").to_owned()).collect();
    let both: BTreeSet<String> = addresses(&before);
    eventually("both addresses", || {
        let found = resolved(&fleet, asker)?;
        anyhow::ensure!(found == both, "{found:?}");
        Ok(())
    });
    // Each is checked by the two other hosts, and by them alone.
    for row in &before {
        let list = format!("healthcheckinstancehostmaps?state=active&instanceId={}", text(row, "id"));
        let votes = eventually("two votes", || {
            let maps = fleet.list(&list)?;
            anyhow::ensure!(maps.len() == 2 && maps.iter().all(|map| map["healthState"] == "healthy"), "{maps:?}");
            Ok(maps)
        });
        assert!(votes.iter().all(|map| map["hostId"] != row["hostId"]), "{votes:?}");
    }

    // One host no longer reaches the container: the other one's yes is enough.
    let first = &before[0];
    let own = host_idx(&fleet, text(first, "hostId"));
    let others: Vec<usize> = (0..3).filter(|idx| *idx != own).collect();
    let blind = fleet.host(others[0]);
    let address = text(first, "primaryIpAddress");
    blind.exec(&["ip", "route", "add", "blackhole", &format!("{address}/32"), "table", "77"]).unwrap();
    blind.exec(&["ip", "rule", "add", "to", address, "lookup", "77", "pref", "10"]).unwrap();
    let blind_id = text(&fleet.host_row(others[0]).unwrap(), "id").to_owned();
    let list = format!("healthcheckinstancehostmaps?state=active&instanceId={}", text(first, "id"));
    eventually("a vote against", || {
        let maps = fleet.list(&list)?;
        let voted = maps.iter().any(|map| map["hostId"] == *blind_id && map["healthState"] == "unhealthy");
        anyhow::ensure!(voted, "{maps:?}");
        Ok(())
    });
    assert_eq!(
        eventually("still healthy", is_well).iter().map(|row| text(row, "id")).collect::<Vec<_>>(),
        before.iter().map(|row| text(row, "id")).collect::<Vec<_>>()
    );
    blind.exec(&["ip", "rule", "del", "to", address, "lookup", "77", "pref", "10"]).unwrap();

    // It hangs: the kernel still takes connections, nobody answers.
    let second = &before[1];
    let on = fleet.host(host_idx(&fleet, text(second, "hostId")));
    on.docker(&["pause", text(second, "externalId")]).unwrap();
    let gone = text(second, "primaryIpAddress");
    eventually("the name without it", || {
        let found = resolved(&fleet, asker)?;
        anyhow::ensure!(!found.contains(gone) && !found.is_empty(), "{found:?}");
        Ok(())
    });
    let after = eventually("another in its place", || {
        let rows = is_well()?;
        anyhow::ensure!(rows[1]["id"] != second["id"], "still the old one");
        Ok(rows)
    });
    assert_eq!((&after[0]["id"], text(&after[1], "name")), (&first["id"], "checked_web_2"));
    let both: BTreeSet<String> = addresses(&after);
    eventually("the new address", || {
        let found = resolved(&fleet, asker)?;
        anyhow::ensure!(found == both, "{found:?}");
        Ok(())
    });

    // A server that is away decides nothing, and hears afterwards what was found meanwhile.
    let second = &after[1];
    let on = fleet.host(host_idx(&fleet, text(second, "hostId")));
    fleet.kill_server().unwrap();
    on.docker(&["pause", text(second, "externalId")]).unwrap();
    let (kept, addresses_kept) = (resolved(&fleet, asker).unwrap(), both);
    assert_eq!(kept, addresses_kept, "names go on as they were told");
    fleet.start_server().unwrap();
    eventually("one more in its place", || {
        let rows = is_well()?;
        anyhow::ensure!(rows[1]["id"] != second["id"], "still the old one");
        Ok(())
    });
}
