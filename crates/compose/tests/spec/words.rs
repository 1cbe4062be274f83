//! What is said of files with mistakes, and of keys without effect.

use crate::world::{both, docker};

#[test]
fn section_4_problems_name_their_place_and_the_way_out() {
    insta::assert_snapshot!(docker("web:\n  imge: x\n  port: [80]\n  volumes: ['./a:/b']\n  memswap_limit: 1g\n  gpus: all\n  secrets: [a]\nmy_app: {image: x, links: [wb]}\n").said(), @r#"
    docker-compose.yml:1:1: web: needs `image`
    docker-compose.yml:2:3: web.imge: is no key of a service (did you mean `image`?)
    docker-compose.yml:3:3: web.port: is no key of a service (did you mean `ports`?)
    docker-compose.yml:4:13: web.volumes: `./a` is relative to this machine, but containers run on other hosts; write an absolute path or a volume name
    docker-compose.yml:5:18: web.memswap_limit: needs `mem_limit`
    docker-compose.yml:6:3: web.gpus: is not supported: hosts do not hand out devices by number
    docker-compose.yml:7:13: web.secrets: the secret `a` is not declared at the top
    docker-compose.yml:8:1: my_app: `my_app` is no name here: only letters, digits and `-` are allowed; `my-app` would do
    docker-compose.yml:8:28: my_app.links: there is no service `wb` in this file (did you mean `web`?)
    "#);
    insta::assert_snapshot!(docker("web: {image: 'x:${A!}'}").said(), @"docker-compose.yml:1:14: web.image: `${A!}` has an operator nobody knows; there are :- - :? ? :+ +");
    insta::assert_snapshot!(docker("web: [1]").said(), @"docker-compose.yml:1:6: web: a service is a map of keys, found a list");
    insta::assert_snapshot!(docker("").said(), @"docker-compose.yml: there is no service in this file");
    insta::assert_snapshot!(docker("- a").said(), @"docker-compose.yml:1:1: a compose file is a map of services");
    insta::assert_snapshot!(docker("services: {web: {image: x}}\nvolume: {a: }\nhosts: {}").said(), @r#"
    docker-compose.yml:2:1: `volume` is no section of a compose file (did you mean `volumes`?)
    docker-compose.yml:3:1: the section `hosts` is not supported
    "#);
    insta::assert_snapshot!(docker("a: {image: x}\nb: 1\na: 2").said(), @"docker-compose.yml:3:1: duplicate key `a`: it stands in line 1 already");
    insta::assert_snapshot!(both("web: {image: x}", "web: {scale: -1, healthcheck: 1, ports: [1], vcpu: 2, health_check: {prot: 1}}\n").said(), @r#"
    rancher-compose.yml:1:14: web.scale: cannot be negative
    rancher-compose.yml:1:18: web.healthcheck: belongs into the docker-compose file
    rancher-compose.yml:1:34: web.ports: belongs into the docker-compose file
    rancher-compose.yml:1:46: web.vcpu: is not supported: there are no virtual machines here (the memory of a container is `mem_limit`)
    rancher-compose.yml:1:70: web.health_check: `prot` is no key of a health check
    "#);
}

#[test]
fn section_4_warnings() {
    insta::assert_snapshot!(both("web: {image: x, environment: {A: '$NO$NO', B: $NO}, container_name: y, mac_address: z, pull_policy: never}", "webb: {scale: 2}\n").said(), @r#"
    warning: docker-compose.yml:1:34: web.environment: variable `NO` is not set; it counts as empty
    warning: docker-compose.yml:1:53: web.container_name: has no effect: containers are named stack_service_N
    warning: docker-compose.yml:1:72: web.mac_address: has no effect: containers here have no such setting
    warning: docker-compose.yml:1:101: web.pull_policy: `never` has no effect: hosts pull what they miss
    warning: rancher-compose.yml:1:1: webb: no service of that name is in the compose file (did you mean `web`?)
    "#);
}
