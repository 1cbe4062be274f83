//! Which services come first (`compose.md` §8).

use std::collections::{BTreeMap, BTreeSet};

use crate::project::Service;

/// Services in waves: those of one wave need only what earlier waves have. On a cycle an edge gives way: links before
/// `depends_on`, and the service that stands first in the file goes first.
pub fn order(services: &[Service]) -> Vec<Vec<&Service>> {
    let primaries: BTreeMap<&str, &str> = services
        .iter()
        .flat_map(|service| service.sidekicks.iter().map(|sidekick| (sidekick.as_str(), service.name.as_str())))
        .collect();
    let known: BTreeSet<&str> = services.iter().map(|service| service.name.as_str()).collect();
    let resolved = |name: &'_ str| -> Option<String> {
        let name = if known.contains(name) { name } else { primaries.get(name)? };
        Some(name.to_owned())
    };
    let hard: Vec<BTreeSet<String>> = services
        .iter()
        .map(|service| service.depends_on.iter().filter_map(|edge| resolved(&edge.target)).collect())
        .collect();
    let all: Vec<BTreeSet<String>> = services
        .iter()
        .map(|service| {
            let needed = service.needs().filter_map(resolved);
            needed.filter(|name| *name != service.name).collect()
        })
        .collect();
    let mut left: Vec<usize> = (0..services.len()).collect();
    let mut waves = Vec::new();
    let (mut hard, mut all) = (hard, all);
    while !left.is_empty() {
        let mut wave: Vec<usize> = left.iter().copied().filter(|idx| all[*idx].is_empty()).collect();
        if wave.is_empty() {
            let soft = left.iter().copied().find(|idx| hard[*idx].is_empty());
            wave.extend(soft.or_else(|| left.first().copied()));
        }
        left.retain(|idx| !wave.contains(idx));
        // Nobody waits for these any more.
        for idx in &left {
            for done in &wave {
                all[*idx].remove(&services[*done].name);
                hard[*idx].remove(&services[*done].name);
            }
        }
        waves.push(wave.into_iter().map(|idx| &services[idx]).collect());
    }
    waves
}

/// The names of a cycle made of `depends_on` alone.
pub fn depends_cycle(edges: &BTreeMap<String, Vec<String>>) -> Option<Vec<String>> {
    // What is left after taking away, again and again, all that waits for nothing.
    let mut left: BTreeMap<String, BTreeSet<String>> = edges
        .iter()
        .map(|(name, needs)| (name.clone(), needs.iter().filter(|need| edges.contains_key(*need)).cloned().collect()))
        .collect();
    loop {
        let free: Vec<String> =
            left.iter().filter(|(_, needs)| needs.is_empty()).map(|(name, _)| name.clone()).collect();
        if free.is_empty() {
            break;
        }
        for name in &free {
            left.remove(name);
        }
        for needs in left.values_mut() {
            for name in &free {
                needs.remove(name);
            }
        }
    }
    let mut path: Vec<String> = vec![left.keys().next()?.clone()];
    loop {
        let last = path.last()?;
        let next = left.get(last)?.iter().find(|name| left.contains_key(*name))?.clone();
        if let Some(at) = path.iter().position(|name| *name == next) {
            let mut cycle = path.split_off(at);
            cycle.push(next);
            return Some(cycle);
        }
        path.push(next);
    }
}
