//! The part of Go's templates that people use with `--format` (`cli.md` §5): paths, `json`, `len`, `endpoint`, `if` with
//! `else`, and `range`. Anything else is refused by name.

use serde_json::Value;

/// A template, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Show(Term),
    If(Term, Vec<Part>, Vec<Part>),
    Range(Term, Vec<Part>),
}

/// An expression: a function, or none, of a path.
#[derive(Clone, Debug, PartialEq)]
struct Term {
    function: Option<Function>,
    path: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Json,
    Len,
    Endpoint,
}

const FUNCTIONS: &[(&str, Function)] =
    &[("json", Function::Json), ("len", Function::Len), ("endpoint", Function::Endpoint)];

/// Why a template does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`{{{{` without `}}}}` in the template")]
    Open,
    #[error(
        "`{0}` is not known in templates; there are paths like .Service.Name, json, len, endpoint, if, else, range and end"
    )]
    Unknown(String),
    #[error("`{{{{{0}}}}}` without a beginning in the template")]
    Stray(String),
    #[error("`{{{{{0}}}}}` without `{{{{end}}}}` in the template")]
    Unended(&'static str),
}

impl Template {
    pub fn parse(text: &str) -> Result<Template, Error> {
        let mut pieces = pieces(text)?.into_iter();
        let (parts, end) = parts(&mut pieces)?;
        match end {
            None => Ok(Template(parts)),
            Some(word) => Err(Error::Stray(word)),
        }
    }

    pub fn render(&self, data: &Value) -> String {
        let mut out = String::new();
        render(&self.0, data, &mut out);
        out
    }
}

enum Piece {
    Text(String),
    Action(String),
}

fn pieces(text: &str) -> Result<Vec<Piece>, Error> {
    let mut pieces = Vec::new();
    // What shells pass on as it was typed.
    let text = text.replace("\\n", "\n").replace("\\t", "\t");
    let mut rest = text.as_str();
    while let Some(start) = rest.find("{{") {
        let end = rest[start..].find("}}").ok_or(Error::Open)? + start;
        pieces.push(Piece::Text(rest[..start].to_owned()));
        pieces.push(Piece::Action(rest[start + 2..end].trim().to_owned()));
        rest = &rest[end + 2..];
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// Parts up to `else`, `end` or the end of the text, and which of them it was.
fn parts(pieces: &mut impl Iterator<Item = Piece>) -> Result<(Vec<Part>, Option<String>), Error> {
    let mut parts = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                if !text.is_empty() {
                    parts.push(Part::Text(text));
                }
                continue;
            }
            Piece::Action(action) => action,
        };
        match action.split_once(' ').unwrap_or((&action, "")) {
            ("end" | "else", "") => return Ok((parts, Some(action))),
            ("if", condition) => {
                let condition = expression(condition)?;
                let (then, end) = self::parts(pieces)?;
                let otherwise = match end.as_deref() {
                    Some("else") => match self::parts(pieces)? {
                        (otherwise, Some(end)) if end == "end" => otherwise,
                        _ => return Err(Error::Unended("else")),
                    },
                    Some(_) => Vec::new(),
                    None => return Err(Error::Unended("if")),
                };
                parts.push(Part::If(condition, then, otherwise));
            }
            ("range", list) => {
                let list = expression(list)?;
                match self::parts(pieces)? {
                    (body, Some(end)) if end == "end" => parts.push(Part::Range(list, body)),
                    _ => return Err(Error::Unended("range")),
                }
            }
            _ => parts.push(Part::Show(expression(&action)?)),
        }
    }
    Ok((parts, None))
}

fn expression(text: &str) -> Result<Term, Error> {
    let text = text.trim();
    let (function, path) = match text.split_once(' ') {
        Some((name, path)) => {
            let function = FUNCTIONS.iter().find(|(known, _)| *known == name).map(|(_, function)| *function);
            (Some(function.ok_or_else(|| Error::Unknown(name.to_owned()))?), path.trim())
        }
        None => (None, text),
    };
    let steps = path.strip_prefix('.').ok_or_else(|| Error::Unknown(text.to_owned()))?;
    if steps.contains(|letter: char| letter.is_whitespace() || "|()".contains(letter)) {
        return Err(Error::Unknown(text.to_owned()));
    }
    Ok(Term { function, path: steps.split('.').filter(|step| !step.is_empty()).map(str::to_owned).collect() })
}

fn render(parts: &[Part], data: &Value, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Show(value) => out.push_str(&value.text(data)),
            Part::If(condition, then, otherwise) => {
                let holds =
                    !remuda_compose::hash::is_empty(condition.find(data)) && condition.find(data).as_i64() != Some(0);
                render(if holds { then } else { otherwise }, data, out);
            }
            Part::Range(list, body) => match list.find(data) {
                Value::Array(items) => items.iter().for_each(|item| render(body, item, out)),
                Value::Object(members) => members.values().for_each(|item| render(body, item, out)),
                _ => {}
            },
        }
    }
}

impl Term {
    /// What the path leads to. Go's names begin with a capital, those of the API do not.
    fn find<'a>(&self, data: &'a Value) -> &'a Value {
        let mut at = data;
        for step in &self.path {
            let mut letters = step.chars();
            let first: String = letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect();
            let lower = step.to_lowercase();
            let found = [step, &first, &lower].into_iter().find_map(|name| at.get(name.as_str()));
            at = found.unwrap_or(&Value::Null);
        }
        at
    }

    fn text(&self, data: &Value) -> String {
        let value = self.find(data);
        match (self.function, value) {
            (Some(Function::Json), value) => value.to_string(),
            (Some(Function::Len), Value::Array(items)) => items.len().to_string(),
            (Some(Function::Len), Value::Object(members)) => members.len().to_string(),
            (Some(Function::Len), Value::String(text)) => text.len().to_string(),
            (Some(Function::Len), _) => "0".to_owned(),
            (Some(Function::Endpoint), value) => crate::items::endpoint_list(value),
            (None, Value::String(text)) => text.clone(),
            (None, Value::Null) => "<no value>".to_owned(),
            (None, value) => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_of_the_old_command_line() {
        let data = json!({
            "ID": "1s5", "Name": "shop/web",
            "Service": {
                "name": "web", "scale": 2, "labels": {"a": "b"}, "launchConfig": {"imageUuid": "docker:nginx"},
                "publicEndpoints": [{"ipAddress": "192.0.2.1", "port": 80}], "linked": ["x", "y"], "fqdn": null,
            },
        });
        for (template, expected) in [
            ("{{.ID}} {{.Service.Name}}", "1s5 web"),
            ("{{ .Service.LaunchConfig.ImageUuid }}", "docker:nginx"),
            ("{{.Service.Scale}}\\n", "2\n"),
            ("{{json .Service.Labels}}", "{\"a\":\"b\"}"),
            ("{{len .Service.Linked}}", "2"),
            ("{{endpoint .Service.PublicEndpoints}}", "192.0.2.1:80"),
            ("{{if .Service.Fqdn}}yes{{else}}no{{end}}", "no"),
            ("{{if .Service.Scale}}some{{end}}", "some"),
            ("{{range .Service.Linked}}<{{.}}>{{end}}", "<x><y>"),
            ("{{.Nothing}}", "<no value>"),
            ("plain", "plain"),
        ] {
            assert_eq!(Template::parse(template).expect(template).render(&data), expected, "{template}");
        }
        for (wrong, error) in [
            ("{{.ID", Error::Open),
            ("{{upper .ID}}", Error::Unknown("upper".to_owned())),
            ("{{ID}}", Error::Unknown("ID".to_owned())),
            ("{{.A | json}}", Error::Unknown(".A".to_owned())),
            ("{{end}}", Error::Stray("end".to_owned())),
            ("{{if .A}}x", Error::Unended("if")),
            ("{{range .A}}x{{else}}", Error::Unended("range")),
        ] {
            assert_eq!(Template::parse(wrong).expect_err(wrong), error, "{wrong}");
        }
    }
}
