//! House rules that a machine can check: who may use whom, what a file must and must not hold, what we build on.
//!
//! The rules stand in `DESIGN.md` §2 and in the house style; here is their only enforcement beside clippy. Text is
//! searched as text, not parsed: a rule that can be cheated by spelling it oddly is still a rule for honest people.
#![allow(clippy::unwrap_used, reason = "a test ends where it finds something wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may use directly; what those use is allowed too. Everything else is a design change.
const MAY_USE: &[(&str, &[&str])] = &[
    ("schema-derive", &[]),
    ("runtime", &[]),
    ("schema", &["schema-derive"]),
    ("model", &["schema"]),
    ("store", &["model"]),
    ("wire", &["model"]),
    ("compose", &["model"]),
    ("client", &["model"]),
    ("orchestrator", &["store", "wire"]),
    ("server", &["orchestrator", "compose"]),
    ("agent", &["wire", "model"]),
    ("cli", &["client", "compose"]),
    ("testbed", &[]),
    ("remuda", &["server", "agent", "cli"]),
    ("apitests", &["server", "agent", "client", "compose", "testbed"]),
    ("simulation", &["server", "agent", "client"]),
];
/// At the bottom beside `schema`: the seams to time, chance and tasks. Whoever acts needs them.
const FOR_ALL: &str = "runtime";
/// Makes hosts and databases for tests and knows none of our crates, so any crate's tests may use it.
const FOR_TESTS: &str = "testbed";

const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    // Mozilla's list of certificate authorities (webpki-roots): data, not code.
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    // File-level copyleft, fine beside Apache-2.0 (gotatun).
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Words no source line may hold, where they may stand all the same, and what to do instead.
const BANNED: &[(&[&str], &[&str], &str)] = &[
    (&["todo!", "unimplemented!"], &[], "declare a thing when it works, not before"),
    (&["#[ignore"], &[], "assert today's answer and say so; a test that does not run proves nothing"),
    (
        &["Command::new(\"sh\")", "Command::new(\"bash\")", "Command::new(\"/bin/sh\")", "Command::new(\"/bin/bash\")"],
        // Runs script files it wrote itself, with arguments as arguments.
        &["crates/testbed/src/"],
        "no shell strings: give the program an argument vector",
    ),
    (
        &["println!(", "print!("],
        &[
            "crates/cli/",
            "crates/remuda/",
            "crates/testbed/",
            "crates/apitests/",
            "crates/simulation/",
            "tests/",
            "benches/",
        ],
        "only commands print; the rest returns or logs",
    ),
];

#[test]
fn crates_use_only_those_below_them() {
    let mut wrong = Vec::new();
    for (name, manifest) in manifests() {
        let Some(allowed) = below(&name) else {
            wrong.push(format!("{name}: a new crate; say in MAY_USE what it stands on"));
            continue;
        };
        for (section, dependencies) in dependency_sections(&manifest) {
            for used in dependencies.iter().filter_map(|dependency| our_crate(dependency)) {
                let for_tests = section == "dev-dependencies" && used == FOR_TESTS;
                if used != FOR_ALL && !for_tests && !allowed.contains(used) {
                    wrong.push(format!("{name}: may not use {used} ({section}); it stands on {allowed:?}"));
                }
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_source_file_says_what_it_is() {
    let silent = sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path);
    assert_none(&silent.map(|path| format!("{path}: does not open with `//! what this is`")).collect::<Vec<_>>());
}

#[test]
fn banned_words_are_absent() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if path == "crates/apitests/tests/tidy.rs" {
            continue;
        }
        for (line_idx, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if code.starts_with("//") {
                continue;
            }
            for (words, allowed, instead) in BANNED {
                let excused =
                    allowed.iter().any(|place| path.starts_with(place) || path.contains(&format!("/{place}")));
                if let Some(word) = words.iter().find(|word| holds_word(code, word)).filter(|_| !excused) {
                    wrong.push(format!("{path}:{}: `{word}`: {instead}", line_idx + 1));
                }
            }
        }
    }
    assert_none(&wrong);
}

/// Unbiased `select!` draws a random branch: a run could not be repeated from its seed.
#[test]
fn every_select_is_biased() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if path == "crates/apitests/tests/tidy.rs" {
            continue;
        }
        for (at, _) in text.match_indices("select! {").chain(text.match_indices("select!{")) {
            let line = text[..at].lines().count();
            let commented = text[..at].rsplit('\n').next().is_some_and(|start| start.trim_start().starts_with("//"));
            let body = text[at..].split_once('{').map(|(_, body)| body.trim_start()).unwrap_or_default();
            if !commented && !body.starts_with("biased;") {
                wrong.push(format!("{path}:{line}: `select!` without `biased;`"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn sources_are_formatted() {
    let output = Command::new("cargo").args(["fmt", "--all", "--check"]).current_dir(root()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let files: BTreeSet<&str> = text.lines().filter(|line| line.starts_with("Diff in")).collect();
    assert!(output.status.success(), "run `make fmt`:\n{}", files.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn licences_are_ones_we_can_ship() {
    let packages = packages();
    let wrong = packages.iter().filter(|package| package.source && !permitted(&package.licence));
    assert_none(
        &wrong.map(|package| format!("{} {}: {}", package.name, package.version, package.licence)).collect::<Vec<_>>(),
    );
}

#[test]
fn licence_expressions_are_read_as_written() {
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-2.0", false),
        ("(GPL-2.0 OR MIT) AND ISC", true),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
        ("", false),
    ] {
        assert_eq!(permitted(expression), expected, "{expression}");
    }
}

/// `docs/decisions/dependencies.md` has a line for what we take, none for what we do not, and names what comes twice.
#[test]
fn dependencies_have_their_reasons() {
    let text = read("docs/decisions/dependencies.md");
    let explained: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name)).collect();
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let declared = manifest["workspace"]["dependencies"].as_table().unwrap();
    let taken: BTreeSet<&str> = declared.keys().map(String::as_str).filter(|name| our_crate(name).is_none()).collect();

    let mut wrong: Vec<String> = taken
        .difference(&explained)
        .map(|name| format!("{name}: why do we take it? One line in dependencies.md"))
        .collect();
    let mut seen = BTreeMap::<String, BTreeSet<String>>::new();
    for package in packages() {
        seen.entry(package.name).or_default().insert(package.version);
    }
    let twice: BTreeSet<&str> =
        seen.iter().filter(|(_, versions)| versions.len() > 1).map(|(name, _)| name.as_str()).collect();
    for name in &twice {
        println!("in several versions: {name} {:?}", seen[*name]);
        if !explained.contains(name) {
            wrong.push(format!("{name}: comes in versions {:?}; say why under \"Twice\"", seen[*name]));
        }
    }
    wrong.extend(
        explained
            .difference(&taken)
            .filter(|name| !twice.contains(*name))
            .map(|name| format!("{name}: is not taken any more")),
    );
    let used: BTreeSet<String> =
        manifests().values().flat_map(dependency_sections).flat_map(|(_, dependencies)| dependencies).collect();
    wrong.extend(
        taken
            .iter()
            .filter(|name| !used.contains(**name))
            .map(|name| format!("{name}: no crate uses it; remove it from Cargo.toml")),
    );
    assert_none(&wrong);
}

#[test]
fn the_readme_names_the_commands_that_exist() {
    let readme = read("README.md");
    let makefile = read("Makefile");
    let mut wrong = Vec::new();
    for target in makefile.lines().filter_map(|line| line.split_once(':').map(|(name, _)| name)) {
        let is_target = !target.is_empty() && target.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        if is_target && !readme.contains(&format!("make {target}")) {
            wrong.push(format!("README.md does not mention `make {target}`"));
        }
    }
    for target in ["run", "test", "bench", "fmt"] {
        if !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))) {
            wrong.push(format!("Makefile: no target `{target}`"));
        }
    }
    assert_none(&wrong);
}

/// A link in a page of ours leads somewhere.
#[test]
fn links_between_pages_lead_somewhere() {
    let mut wrong = Vec::new();
    for path in files(&root(), "md") {
        let text = read(&path);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#', ' ']).next().unwrap_or_default();
            let outside = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            let parent = root().join(&path).parent().unwrap().to_path_buf();
            if !outside && !parent.join(target).exists() {
                wrong.push(format!("{path}: links to {target}, which is not there"));
            }
        }
    }
    assert_none(&wrong);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} found:\n{}", wrong.len(), wrong.join("\n"));
}

/// The crate's short name when the dependency is one of ours.
fn our_crate(dependency: &str) -> Option<&str> {
    dependency.strip_prefix("remuda-")
}

fn manifests() -> BTreeMap<String, toml::Table> {
    let crates = fs::read_dir(root().join("crates")).unwrap().flatten();
    crates
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let manifest = read(&format!("crates/{name}/Cargo.toml")).parse().unwrap();
            (name, manifest)
        })
        .collect()
}

fn dependency_sections(manifest: &toml::Table) -> Vec<(&'static str, Vec<String>)> {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .into_iter()
        .filter_map(|section| Some((section, manifest.get(section)?.as_table()?.keys().cloned().collect())))
        .collect()
}

/// Everything a crate may use: what MAY_USE says, followed down.
fn below(name: &str) -> Option<BTreeSet<&'static str>> {
    let direct = |name: &str| MAY_USE.iter().find(|(user, _)| *user == name).map(|(_, used)| *used);
    let mut open = direct(name)?.to_vec();
    let mut all = BTreeSet::new();
    while let Some(next) = open.pop() {
        if all.insert(next) {
            open.extend(direct(next).unwrap_or_else(|| panic!("MAY_USE lacks {next}")));
        }
    }
    Some(all)
}

/// Every source file of ours, by path from the root.
fn sources() -> Vec<(String, String)> {
    files(&root(), "rs").into_iter().map(|path| (path.clone(), read(&path))).collect()
}

fn files(from: &Path, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![from.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let skipped = name.to_string_lossy().starts_with('.') || name == "target" || name == "node_modules";
            if entry.file_type().unwrap().is_dir() && !skipped && !name.to_string_lossy().starts_with("remuda-data") {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_string());
            }
        }
    }
    found.sort();
    found
}

/// `print!(` is not meant by `eprint!(`.
fn holds_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

struct Package {
    name: String,
    version: String,
    licence: String,
    /// It comes from a registry, not from this repository.
    source: bool,
}

fn packages() -> Vec<Package> {
    let output = Command::new("cargo")
        .args(["metadata", "--offline", "--locked", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| Package {
            name: text(&package["name"]),
            version: text(&package["version"]),
            licence: text(&package["license"]),
            source: !package["source"].is_null(),
        })
        .collect()
}

/// Whether an SPDX expression lets us choose licences from the list: OR needs one side, AND both.
fn permitted(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens: Vec<String> = Vec::new();
    for word in spaced.split_whitespace() {
        match tokens.last_mut() {
            // "X WITH Y" is one name.
            Some(last) if word == "WITH" || last.ends_with(" WITH") => *last = format!("{last} {word}"),
            _ => tokens.push(word.to_string()),
        }
    }
    let mut rest = tokens.as_slice();
    either(&mut rest) && rest.is_empty()
}

fn either(tokens: &mut &[String]) -> bool {
    let mut holds = both(tokens);
    while tokens.first().is_some_and(|token| token == "OR") {
        *tokens = &tokens[1..];
        holds |= both(tokens);
    }
    holds
}

fn both(tokens: &mut &[String]) -> bool {
    let mut holds = one(tokens);
    while tokens.first().is_some_and(|token| token == "AND") {
        *tokens = &tokens[1..];
        holds &= one(tokens);
    }
    holds
}

fn one(tokens: &mut &[String]) -> bool {
    let Some((first, rest)) = tokens.split_first() else { return false };
    *tokens = rest;
    if first != "(" {
        return LICENCES.contains(&first.as_str());
    }
    let holds = either(tokens);
    let closed = tokens.first().is_some_and(|token| token == ")");
    *tokens = tokens.get(1..).unwrap_or_default();
    holds && closed
}
