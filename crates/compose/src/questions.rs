//! `.catalog` questions: what a template asks, and whether an answer will do (`compose.md` §6).

use crate::context::Context;
use crate::load::{self, listed};
use crate::node::{Node, Value, shown};
use crate::problem::{hint, nearest};
use crate::project::Sources;
use crate::values;

/// What an answer may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuestionKind {
    #[default]
    Text,
    Int,
    Boolean,
    Password,
    /// Name of a service of the environment.
    Service,
    Enum,
    Multiline,
    /// Name of a certificate of the environment.
    Certificate,
}

const KINDS: &[(&str, QuestionKind)] = &[
    ("string", QuestionKind::Text),
    ("int", QuestionKind::Int),
    ("boolean", QuestionKind::Boolean),
    ("password", QuestionKind::Password),
    ("service", QuestionKind::Service),
    ("enum", QuestionKind::Enum),
    ("multiline", QuestionKind::Multiline),
    ("certificate", QuestionKind::Certificate),
];

const KEYS: &[&str] = &[
    "variable",
    "label",
    "description",
    "type",
    "default",
    "required",
    "options",
    "group",
    "min_length",
    "max_length",
    "min",
    "max",
    "valid_chars",
    "invalid_chars",
];

/// One question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    pub variable: String,
    pub label: String,
    pub description: String,
    pub kind: QuestionKind,
    pub default: Option<String>,
    pub required: bool,
    pub options: Vec<String>,
    pub group: String,
    pub min_length: Option<i64>,
    pub max_length: Option<i64>,
    pub min: Option<i64>,
    pub max: Option<i64>,
    pub valid_chars: Option<String>,
    pub invalid_chars: Option<String>,
}

impl Question {
    /// Why an answer will not do.
    pub fn check(&self, answer: &str) -> Result<(), String> {
        if answer.is_empty() {
            return if self.required { Err("an answer is required".to_owned()) } else { Ok(()) };
        }
        match self.kind {
            QuestionKind::Int => match answer.parse::<i64>() {
                Err(_) => return Err(format!("`{}` is not a whole number", shown(answer))),
                Ok(number) if self.min.is_some_and(|min| number < min) => {
                    return Err(format!("{number} is less than {}", self.min.unwrap_or_default()));
                }
                Ok(number) if self.max.is_some_and(|max| number > max) => {
                    return Err(format!("{number} is more than {}", self.max.unwrap_or_default()));
                }
                Ok(_) => {}
            },
            QuestionKind::Boolean if !matches!(answer, "true" | "false") => {
                return Err("the answer is true or false".to_owned());
            }
            QuestionKind::Enum if !self.options.iter().any(|option| option == answer) => {
                let near = nearest(answer, self.options.iter().map(String::as_str));
                let near = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
                return Err(format!("the answer is one of {}{near}", self.options.join(", ")));
            }
            _ => {}
        }
        let length = i64::try_from(answer.chars().count()).unwrap_or(i64::MAX);
        if let Some(min) = self.min_length.filter(|min| length < *min) {
            return Err(format!("the answer has fewer than {min} characters"));
        }
        if let Some(max) = self.max_length.filter(|max| *max > 0 && length > *max) {
            return Err(format!("the answer has more than {max} characters"));
        }
        let allowed = |letter: &char| self.valid_chars.as_ref().is_none_or(|valid| valid.contains(*letter));
        let forbidden = |letter: &char| self.invalid_chars.as_ref().is_some_and(|invalid| invalid.contains(*letter));
        match answer.chars().find(|letter| !allowed(letter) || forbidden(letter)) {
            Some(letter) => Err(format!("`{letter}` may not be in the answer")),
            None => Ok(()),
        }
    }
}

/// The questions of the files, before anything else is read of them: their answers are variables of the compile.
/// Mistakes are left for the compile to tell.
pub fn of(sources: &Sources<'_>) -> Vec<Question> {
    let mut context = Context::new(sources);
    let files = sources.rancher.iter().chain(&sources.compose);
    let section = files.into_iter().find_map(|source| load::catalog(&mut context, source));
    section.map(|section| read(&mut context, &section)).unwrap_or_default()
}

/// Reads the questions of a section.
pub fn read(context: &mut Context<'_>, catalog: &Node) -> Vec<Question> {
    let path = "catalog.questions";
    let items = catalog.get("questions").map(Node::items).unwrap_or_default();
    items.iter().filter_map(|item| one(context, item, path)).collect()
}

fn one(context: &mut Context<'_>, item: &Node, path: &str) -> Option<Question> {
    let Value::Map(members) = &item.value else {
        context.problem(item.place, path, "a question is a map");
        return None;
    };
    for (key, _) in members.iter().filter(|(key, _)| !KEYS.contains(&key.name.as_str())) {
        let text = format!("`{}` is no key of a question{}", shown(&key.name), hint(&key.name, KEYS.iter().copied()));
        context.warn(key.place, path, text);
    }
    let Some(variable) = item.part("variable") else {
        context.problem(item.place, path, "a question needs `variable`");
        return None;
    };
    let kind = match item.part("type") {
        None => QuestionKind::Text,
        Some(name) => match KINDS.iter().find(|(known, _)| *known == name) {
            Some((_, kind)) => *kind,
            None => {
                let near = hint(&name, KINDS.iter().map(|(known, _)| *known));
                context.problem(item.place, path, format!("there is no type `{}` of answers{near}", shown(&name)));
                return None;
            }
        },
    };
    let mut number = |name: &str| item.get(name).and_then(|node| context.take(path, values::int(node))?.as_i64());
    Some(Question {
        label: item.part("label").unwrap_or_else(|| variable.clone()),
        variable,
        description: item.part("description").unwrap_or_default(),
        kind,
        default: item.part("default"),
        required: item.part("required").as_deref() == Some("true"),
        options: listed(item.get("options")),
        group: item.part("group").unwrap_or_default(),
        min_length: number("min_length"),
        max_length: number("max_length"),
        min: number("min"),
        max: number("max"),
        valid_chars: item.part("valid_chars"),
        invalid_chars: item.part("invalid_chars"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_checked_against_every_limit() {
        let question = |kind| Question { kind, ..Question::default() };
        let enumerated =
            Question { options: vec!["small".to_owned(), "large".to_owned()], ..question(QuestionKind::Enum) };
        let bounded = Question { min: Some(1), max: Some(5), ..question(QuestionKind::Int) };
        let short = Question { min_length: Some(2), max_length: Some(3), ..Question::default() };
        let valid = Question { valid_chars: Some("abc".to_owned()), ..Question::default() };
        let invalid = Question { invalid_chars: Some("$".to_owned()), ..Question::default() };
        let required = Question { required: true, ..Question::default() };
        for (question, answer, expected) in [
            (&enumerated, "small", None),
            (&enumerated, "smal", Some("did you mean `small`?")),
            (&bounded, "5", None),
            (&bounded, "6", Some("more than 5")),
            (&bounded, "0", Some("less than 1")),
            (&bounded, "x", Some("not a whole number")),
            (&short, "abc", None),
            (&short, "a", Some("fewer than 2")),
            (&short, "abcd", Some("more than 3")),
            (&valid, "cab", None),
            (&valid, "cat", Some("`t` may not")),
            (&invalid, "a$", Some("`$` may not")),
            (&required, "", Some("required")),
            (&question(QuestionKind::Boolean), "yes", Some("true or false")),
            (&question(QuestionKind::Password), "", None),
        ] {
            match (question.check(answer), expected) {
                (Ok(()), None) => {}
                (Err(text), Some(part)) => assert!(text.contains(part), "{answer}: {text}"),
                (found, _) => panic!("{answer}: {found:?}"),
            }
        }
    }
}
