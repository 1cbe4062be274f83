//! Results on stdout: tables for people, JSON and YAML for programs. A closed pipe ends the program quietly.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table};
use serde_json::{Value, json};

use crate::failure::Failure;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Table,
    /// The table with more columns
    Wide,
    /// One array, or one object
    Json,
    /// One object per line
    Jsonl,
    Yaml,
    Name,
    Id,
}

/// One line of a list: what every item has, and cells for the table.
#[derive(Clone, Debug, Default)]
pub struct Item {
    pub id: String,
    pub kind: String,
    pub name: String,
    pub stack: Option<String>,
    pub state: String,
    pub health: Option<String>,
    pub detail: String,
    /// In the order of the columns.
    pub cells: Vec<String>,
    /// The API's own object.
    pub resource: Value,
}

impl Item {
    fn json(&self) -> Value {
        json!({
            "id": self.id, "kind": self.kind, "name": self.name, "stack": self.stack, "state": self.state,
            "health": self.health, "detail": self.detail, "resource": self.resource,
        })
    }
}

/// Where results go and in which form.
#[derive(Clone, Debug)]
pub struct Out {
    pub format: Format,
    pub headers: bool,
}

impl Out {
    /// A list, in the chosen form. `columns` of the normal table come first; `wide` ones follow.
    pub fn list(&self, columns: &[&str], wide: &[&str], items: &[Item]) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.line(&pretty(&items.iter().map(Item::json).collect())),
            Format::Jsonl => items.iter().try_for_each(|item| self.line(&item.json().to_string())),
            Format::Yaml => self.yaml(&items.iter().map(Item::json).collect()),
            Format::Name => items.iter().try_for_each(|item| self.line(&item.name)),
            Format::Id => items.iter().try_for_each(|item| self.line(&item.id)),
            Format::Table => self.table(columns, items),
            Format::Wide => self.table(&[columns, wide].concat(), items),
        }
    }

    /// A list whose columns were chosen by title, wide ones included.
    pub fn chosen(
        &self,
        columns: &[&'static str],
        wide: &[&'static str],
        titles: &[String],
        mut items: Vec<Item>,
    ) -> Result<(), Failure> {
        if titles.is_empty() {
            return self.list(columns, wide, &items);
        }
        let all = [columns, wide].concat();
        let find = |title: &String| {
            all.iter().position(|column| column.eq_ignore_ascii_case(title.trim())).ok_or_else(|| {
                Failure::usage(format!("there is no column `{title}`")).hint(format!("columns: {}", all.join(", ")))
            })
        };
        let picked: Vec<usize> = titles.iter().map(find).collect::<Result<_, _>>()?;
        for item in &mut items {
            item.cells = picked.iter().map(|idx| item.cells.get(*idx).cloned().unwrap_or_default()).collect();
        }
        let columns: Vec<&str> = picked.iter().map(|idx| all[*idx]).collect();
        self.list(&columns, &[], &items)
    }

    /// One object.
    pub fn object(&self, value: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Yaml => self.yaml(value),
            Format::Jsonl => self.line(&value.to_string()),
            Format::Id => self.line(value.get("id").and_then(Value::as_str).unwrap_or_default()),
            Format::Name => self.line(value.get("name").and_then(Value::as_str).unwrap_or_default()),
            Format::Json | Format::Table | Format::Wide => self.line(&pretty(value)),
        }
    }

    fn table(&self, columns: &[&str], items: &[Item]) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        // Nothing is cut or wrapped when a program reads it.
        let arrangement =
            if std::io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
        table.set_content_arrangement(arrangement);
        if self.headers {
            table.set_header(columns);
        }
        for item in items {
            table.add_row(item.cells.iter().take(columns.len()));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        if items.is_empty() && !self.headers {
            return Ok(());
        }
        table.lines().try_for_each(|line| self.line(line.trim_end()))
    }

    fn yaml(&self, value: &Value) -> Result<(), Failure> {
        let text = serde_saphyr::to_string(value).map_err(|error| Failure::new(1, error.to_string()))?;
        self.text(&text)
    }

    /// One line of text.
    pub fn line(&self, line: &str) -> Result<(), Failure> {
        self.text(&format!("{line}\n"))
    }

    /// Text as it is.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Bytes as they are.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // The reader has seen enough: `remuda ps | head`.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            written => Ok(written?),
        }
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// How long ago, in the largest fitting unit.
pub fn age(created_ms: i64, now_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(created_ms).max(0) / 1000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_use_the_largest_fitting_unit() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d"), (-5, "0s")] {
            assert_eq!(age(0, seconds * 1000), text);
        }
    }
}
