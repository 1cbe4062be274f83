//! The few commands a simulated container knows, so that exec can be tried and tested without Docker.

use std::collections::BTreeMap;

/// What a command gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub code: i64,
}

/// What a command can see.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub hostname: String,
    pub environment: BTreeMap<String, String>,
    pub working_dir: String,
    pub user: String,
}

/// How a command line goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Done at once.
    Done(Outcome),
    /// Copies its input to its output until the input ends.
    Copy,
    /// Reads commands, a line each, until `exit` or the end of input.
    Shell,
    /// Waits, then ends well.
    Sleep(u64),
    /// From now on the container answers health checks, or does not.
    Health(bool),
}

/// Reads an argument vector.
pub fn command(argv: &[String], around: &Surroundings) -> Command {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let Some((program, arguments)) = words.split_first() else { return Command::Shell };
    match (program.rsplit('/').next().unwrap_or(program), arguments) {
        ("sh" | "bash" | "ash", []) => Command::Shell,
        ("sh" | "bash" | "ash", ["-c", script, ..]) => script_command(script, around),
        ("cat", []) => Command::Copy,
        ("health", ["on"]) => Command::Health(true),
        ("health", ["off"]) => Command::Health(false),
        ("sleep", [seconds]) => match seconds.parse() {
            Ok(seconds) => Command::Sleep(seconds),
            Err(_) => failed(1, format!("sleep: invalid number '{seconds}'\n")),
        },
        (name, arguments) => Command::Done(builtin(name, arguments, around)),
    }
}

/// A script of simple commands: `echo a; exit 3`. The last one decides.
pub fn script_command(script: &str, around: &Surroundings) -> Command {
    let mut whole = Outcome::default();
    let steps: Vec<&str> = script.split([';', '\n']).flat_map(|step| step.split("&&")).collect();
    for (position, step) in steps.iter().enumerate() {
        let to_stderr = step.contains(">&2");
        let words: Vec<String> =
            split_words(step, around).into_iter().filter(|word| word != ">&2" && word != "1>&2").collect();
        let Some(first) = words.first() else { continue };
        if first == "exit" {
            whole.code = words.get(1).and_then(|code| code.parse().ok()).unwrap_or(whole.code);
            break;
        }
        match command(&words, around) {
            Command::Done(outcome) => {
                let target = if to_stderr { &mut whole.stderr } else { &mut whole.stdout };
                target.push_str(&outcome.stdout);
                whole.stderr.push_str(&outcome.stderr);
                whole.code = outcome.code;
            }
            other if position + 1 == steps.len() && whole == Outcome::default() => return other,
            _ => whole.code = 0,
        }
    }
    Command::Done(whole)
}

fn failed(code: i64, stderr: String) -> Command {
    Command::Done(Outcome { stderr, code, ..Outcome::default() })
}

fn builtin(name: &str, arguments: &[&str], around: &Surroundings) -> Outcome {
    let said = |stdout: String| Outcome { stdout, ..Outcome::default() };
    match name {
        "echo" => match arguments {
            ["-n", rest @ ..] => said(rest.join(" ")),
            rest => said(format!("{}\n", rest.join(" "))),
        },
        "printf" => said(arguments.join(" ").replace("\\n", "\n")),
        "true" | ":" => Outcome::default(),
        "false" => Outcome { code: 1, ..Outcome::default() },
        "hostname" => said(format!("{}\n", around.hostname)),
        "whoami" => said(format!("{}\n", if around.user.is_empty() { "root" } else { &around.user })),
        "pwd" => said(format!("{}\n", if around.working_dir.is_empty() { "/" } else { &around.working_dir })),
        "env" | "printenv" => match arguments {
            [key] => match around.environment.get(*key) {
                Some(value) => said(format!("{value}\n")),
                None => Outcome { code: 1, ..Outcome::default() },
            },
            _ => said(around.environment.iter().map(|(key, value)| format!("{key}={value}\n")).collect()),
        },
        "ls" => said("bin  etc  home  proc  root  tmp  usr  var\n".to_owned()),
        "uname" => said("Linux\n".to_owned()),
        _ => Outcome {
            stderr: format!("OCI runtime exec failed: exec failed: \"{name}\": executable file not found in $PATH\n"),
            code: 127,
            ..Outcome::default()
        },
    }
}

/// Words with quotes and `$NAME`, as far as simple scripts need.
fn split_words(text: &str, around: &Surroundings) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t') => words.extend(word.take()),
            (None | Some('"'), '$') => {
                let mut name = String::new();
                while let Some(next) = characters.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
                    name.push(next);
                }
                let value = around.environment.get(&name).map(String::as_str).unwrap_or_default();
                word.get_or_insert_default().push_str(value);
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_commands_answer() {
        let around = Surroundings {
            hostname: "web-1".into(),
            environment: [("A".to_owned(), "b".to_owned())].into(),
            ..Surroundings::default()
        };
        let check = |argv: &[&str], stdout: &str, stderr: &str, code: i64| {
            let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
            let expected = Outcome { stdout: stdout.into(), stderr: stderr.into(), code };
            assert_eq!(command(&argv, &around), Command::Done(expected), "{argv:?}");
        };
        check(&["echo", "hello", "world"], "hello world\n", "", 0);
        check(&["/bin/hostname"], "web-1\n", "", 0);
        check(&["sh", "-c", "echo $A; exit 3"], "b\n", "", 3);
        check(&["sh", "-c", "echo 'x  y' >&2"], "", "x  y\n", 0);
        check(&["false"], "", "", 1);
        check(&["printenv", "A"], "b\n", "", 0);
        assert_eq!(command(&["cat".to_owned()], &around), Command::Copy);
        assert_eq!(command(&["sh".to_owned()], &around), Command::Shell);
        let off = ["sh", "-c", "health off"].map(str::to_owned);
        assert_eq!(command(&off, &around), Command::Health(false));
        assert!(matches!(command(&["nginx".to_owned()], &around), Command::Done(Outcome { code: 127, .. })));
    }
}
