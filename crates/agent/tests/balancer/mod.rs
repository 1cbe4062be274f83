//! Balancers on real HAProxy in a real container: what is changed while it runs, what is refused, what a kill leaves.

mod churn;
mod host;
mod load;
mod rig;

use remuda_agent::balancer::rendered::Server;

use churn::{Churned, churn};
use rig::{Balancer, bed, certificate, web};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_and_certificates_change_while_the_same_worker_serves() {
    let bed = bed();
    let mut targets = load::Targets::new(bed.gateway());
    let (one, two) = (targets.open("one").await, targets.open("two").await);
    let (first, second) = (certificate("first.test"), certificate("second.test"));
    let mut balancer = Balancer::started(bed, &web("", [&one], Some(&first))).await;
    assert_eq!(balancer.settle(&web("", [&one], Some(&first))).await.problem, None);
    let worker = balancer.worker();
    assert_eq!((balancer.get("/"), balancer.get("/")), ("one200".into(), "one200".into()));

    balancer.settle(&web("", [&one, &two], Some(&first))).await;
    let both = [balancer.get("/"), balancer.get("/")];
    assert!(both.contains(&"one200".into()) && both.contains(&"two200".into()), "{both:?}");

    let drained = Server { drain: true, ..one.clone() };
    balancer.settle(&web("", [&drained, &two], Some(&first))).await;
    assert_eq!((balancer.get("/"), balancer.get("/")), ("two200".into(), "two200".into()));
    balancer.settle(&web("", [&one], Some(&first))).await;
    assert_eq!((balancer.get("/"), balancer.get("/")), ("one200".into(), "one200".into()));

    assert!(balancer.subject().contains("first.test"), "{}", balancer.subject());
    balancer.settle(&web("", [&one], Some(&second))).await;
    assert!(balancer.subject().contains("second.test"), "{}", balancer.subject());
    assert_eq!((balancer.worker(), balancer.instance.counts.reloads), (worker, 0));

    // An agent that was killed finds everything as it is.
    balancer.forget();
    balancer.settle(&web("", [&one, &two], Some(&second))).await;
    assert_eq!(balancer.instance.counts.reloads, 0);

    // A container that starts anew begins with the last configuration, drained servers included.
    let wanted = web("", [&drained, &two], Some(&second));
    balancer.settle(&wanted).await;
    balancer.engine.stop(&balancer.docker_id, 5).await.expect("stops");
    balancer.instance.prepare(&wanted).expect("is on disk");
    balancer.engine.start(&balancer.docker_id).await.expect("starts");
    balancer.settle(&wanted).await;
    assert_eq!((balancer.get("/"), balancer.get("/")), ("two200".into(), "two200".into()));
    assert!(balancer.subject().contains("second.test"), "{}", balancer.subject());
    assert_eq!(balancer.instance.counts.reloads, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_haproxy_refuses_never_replaces_what_runs() {
    let bed = bed();
    let mut targets = load::Targets::new(bed.gateway());
    let (one, two) = (targets.open("one").await, targets.open("two").await);
    let bad = web("    http-request rubbish\n", [&one], None);

    // From the first: the container ends with it, starts idle at the second try, and says what is wrong.
    let mut balancer = Balancer::started(bed, &bad).await;
    while balancer.engine.inspect(&balancer.docker_id).await.expect("is there")["State"]["Running"] == true {
        balancer.seams.clock.sleep(std::time::Duration::from_millis(20)).await;
    }
    balancer.instance.prepare(&bad).expect("is on disk");
    balancer.engine.start(&balancer.docker_id).await.expect("starts");
    let problem = balancer.settle(&bad).await.problem.expect("is refused");
    assert!(problem.contains("'rubbish'") && problem.contains("(`http-request rubbish`)"), "{problem}");

    let good = |server: &Server| web("    acl a path_beg /a\n    http-request deny if a\n", [server], None);
    assert_eq!(balancer.settle(&good(&one)).await.problem, None);
    assert_eq!((balancer.get("/"), &balancer.get("/a")[balancer.get("/a").len() - 3..]), ("one200".into(), "403"));

    // Bad rules again: the good ones go on, their targets follow, and it is asked once.
    let bad = |server: &Server| web("    http-request rubbish\n", [server], None);
    assert!(balancer.settle(&bad(&one)).await.problem.is_some());
    assert!(balancer.settle(&bad(&two)).await.problem.is_some());
    assert_eq!(balancer.get("/"), "two200");
    assert!(balancer.get("/a").ends_with("403"));
    assert_eq!(balancer.instance.counts.refusals, 2);

    // An agent that starts anew keeps the good rules, and so does the container.
    balancer.forget();
    assert!(balancer.settle(&bad(&one)).await.problem.is_some());
    assert_eq!((balancer.get("/"), balancer.instance.counts.reloads), ("one200".into(), 0));
    balancer.engine.stop(&balancer.docker_id, 5).await.expect("stops");
    balancer.instance.prepare(&bad(&two)).expect("is on disk");
    balancer.engine.start(&balancer.docker_id).await.expect("starts");
    assert!(balancer.settle(&bad(&two)).await.problem.is_some());
    assert_eq!(balancer.get("/"), "two200");

    assert_eq!(balancer.settle(&good(&one)).await.problem, None);
    assert_eq!(balancer.get("/"), "one200");

    // A certificate that is none: the old one stays.
    let first = certificate("first.test");
    assert_eq!(balancer.settle(&web("", [&one], Some(&first))).await.problem, None);
    let problem = balancer.settle(&web("", [&two], Some(b"rubbish"))).await.problem.expect("is refused");
    assert!(problem.contains("certs/main.pem"), "{problem}");
    assert!(balancer.subject().contains("first.test"));
    assert_eq!(balancer.get("/"), "two200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_everything_changes() {
    let Churned { n_requests, n_changes, seconds, counts } = churn(20_000).await;
    println!("{n_requests} requests in {seconds:.1} s, {:.1} changes/s, {counts:?}", n_changes as f64 / seconds);
    assert!(n_requests >= 20_000 && counts.runtime_changes > counts.reloads, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_is_finished_at_a_reload_and_at_a_stop() {
    let bed = bed();
    let mut targets = load::Targets::new(bed.gateway());
    let one = targets.open("one").await;
    let mut balancer = Balancer::started(bed, &web("", [&one], None)).await;
    balancer.settle(&web("", [&one], None)).await;
    assert_eq!(balancer.get("/"), "one200");
    let slow = |balancer: &Balancer| {
        let url = format!("http://{}/slow", balancer.address);
        let mut curl = std::process::Command::new("curl");
        curl.args(["-s", "-m", "10", "-w", "%{http_code}", &url]).stdout(std::process::Stdio::piped());
        curl.spawn().expect("curl is here")
    };
    let answer = |curl: std::process::Child| {
        let out = curl.wait_with_output().expect("ends");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let connected = async |balancer: &Balancer| {
        // The listener's own count says when the request has come in.
        loop {
            let (_, look) = balancer.instance.master().look().await.expect("answers");
            if look.totals.connections > 0 {
                return;
            }
        }
    };

    let under_way = slow(&balancer);
    connected(&balancer).await;
    balancer.settle(&web("    http-request set-header X-A 1\n", [&one], None)).await;
    assert_eq!(balancer.instance.counts.reloads, 1);
    assert_eq!((balancer.get("/"), answer(under_way)), ("one200".into(), "one200".into()));

    let under_way = slow(&balancer);
    connected(&balancer).await;
    balancer.engine.stop(&balancer.docker_id, 20).await.expect("stops");
    assert_eq!((balancer.get("/"), answer(under_way)), ("000".into(), "one200".into()));
    let seen = balancer.engine.inspect(&balancer.docker_id).await.expect("is there");
    assert_eq!(seen["State"]["ExitCode"], 0, "it ended by itself");
}
