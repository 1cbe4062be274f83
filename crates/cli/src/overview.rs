//! What `remuda` alone prints: the commands by what one wants to do.

use crate::config;
use crate::globals::Globals;
use crate::session::environment;

/// Headings and the commands under them, in the order a newcomer needs them.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Project (compose.yaml / docker-compose.yml + rancher-compose.yml)",
        &[
            "up", "down", "diff", "create", "start", "stop", "restart", "rm", "scale", "upgrade", "pull", "build",
            "config", "export",
        ],
    ),
    ("Look", &["ps", "logs", "inspect", "events", "top", "wait"]),
    ("Containers", &["exec", "run"]),
    ("Resources", &["stack", "host", "env"]),
    ("Setup", &["login", "logout", "context", "completion", "doctor", "version", "api"]),
    ("Parts", &["server", "agent"]),
];

const SEE: &str = "See `remuda COMMAND --help` for options and examples";

/// The command with its subcommands in groups instead of one long list.
pub fn grouped(root: clap::Command) -> clap::Command {
    let groups = groups(&root);
    root.help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n{groups}\nOptions, before or after the command\n{{options}}\n\n{SEE}"
    ))
}

/// The overview: no options, and where commands would go. Nobody is asked for it.
pub fn overview(root: &clap::Command, globals: &Globals) -> String {
    let about = root.get_about().map(ToString::to_string).unwrap_or_default();
    let groups = groups(root);
    format!("{about}\n\nUsage: remuda [OPTIONS] COMMAND\n{groups}\n{}\n{SEE}\n", context(globals))
}

fn context(globals: &Globals) -> String {
    let file = config::path(&environment).and_then(|path| config::load(&path).ok()).unwrap_or_default();
    match config::choose(globals, &file, &environment) {
        Ok((_, context)) if context.url.is_empty() => {
            "No server yet: `remuda login URL`, or `remuda server --dev`".to_owned()
        }
        Ok((name, context)) => {
            let name = name.map(|name| format!("{name} ")).unwrap_or_default();
            let project = context.environment.map(|project| format!(", environment {project}")).unwrap_or_default();
            format!("Context: {name}({}){project}", context.url)
        }
        Err(failure) => failure.message,
    }
}

fn groups(root: &clap::Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        text.push_str(&format!("\n{heading}\n"));
        for command in names.iter().filter_map(|name| root.find_subcommand(name)) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("  {:<11} {about}\n", command.get_name()));
        }
    }
    text
}

/// Commands that are in no group, or in a group and not there; for the test of whoever has them all.
pub fn ungrouped(root: &clap::Command) -> Vec<String> {
    let listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let known: Vec<&str> =
        root.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name).collect();
    let missing = known.iter().filter(|name| !listed.contains(name) && **name != "help");
    let unknown = listed.iter().filter(|name| !known.contains(name));
    missing.chain(unknown).map(|name| (*name).to_owned()).collect()
}
