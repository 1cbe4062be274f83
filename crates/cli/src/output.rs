//! Results on stdout: tables for people, JSON and YAML for programs. A closed pipe ends the program quietly.

use std::io::{IsTerminal, Write};

use comfy_table::{Cell, Color, ContentArrangement, Table};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::paint::{self, Colour, Ink};
use crate::template::Template;

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
    /// JSON of the API's own objects
    Api,
}

/// Which columns a list has, and in which order its items stand.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Shape {
    /// Columns to show, by title
    #[arg(long, value_delimiter = ',', value_name = "TITLE,…", help_heading = "Output options")]
    pub columns: Vec<String>,
    /// Column to sort by
    #[arg(long, value_name = "TITLE", help_heading = "Output options")]
    pub sort_by: Option<String>,
    /// `json` for a line per item, or a Go template like '{{.Name}} {{.State}}'
    #[arg(long, value_name = "TEMPLATE", help_heading = "Output options")]
    pub format: Option<String>,
}

/// How a list is shown.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ListOptions {
    #[command(flatten)]
    pub shape: Shape,
    /// Go on with what changes, until interrupted
    #[arg(short, long, help_heading = "Output options")]
    pub watch: bool,
}

/// The columns of one kind of list: those of the normal table, and what `wide` adds.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    pub usual: &'static [&'static str],
    pub wide: &'static [&'static str],
}

impl Columns {
    fn all(&self) -> Vec<&'static str> {
        [self.usual, self.wide].concat()
    }

    /// Position of a column, whatever the case of its title.
    fn find(&self, title: &str) -> Result<usize, Failure> {
        let all = self.all();
        all.iter().position(|column| column.eq_ignore_ascii_case(title.trim())).ok_or_else(|| {
            Failure::usage(format!("there is no column `{title}`")).hint(format!("columns: {}", all.join(", ")))
        })
    }
}

/// Items of one kind.
#[derive(Clone, Debug)]
pub struct Section {
    pub columns: Columns,
    pub items: Vec<Item>,
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
    /// The object that `--format` of the old command line saw, with Go's names.
    fn old(&self) -> Value {
        let kind = capital(&self.kind);
        let mut old = json!({
            "ID": self.id, "Name": self.name, "State": self.state, "CombinedState": self.health.as_ref().unwrap_or(&self.state),
            "Detail": self.detail, "Stack": {"name": self.stack},
        });
        old[kind] = self.resource.clone();
        old
    }

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
    pub colour: Colour,
}

impl Out {
    /// Lists, one after the other.
    pub fn sections(&self, sections: Vec<Section>, shape: &Shape) -> Result<(), Failure> {
        for section in sections {
            let text = self.render(section, shape)?;
            self.text(&text)?;
        }
        Ok(())
    }

    /// One list, in the chosen form, its columns and their order as asked for.
    pub fn list(&self, columns: Columns, items: Vec<Item>, shape: &Shape) -> Result<(), Failure> {
        self.sections(vec![Section { columns, items }], shape)
    }

    /// The text of a list.
    pub fn render(&self, Section { columns, mut items }: Section, shape: &Shape) -> Result<String, Failure> {
        if let Some(title) = &shape.sort_by {
            let idx = columns.find(title)?;
            if columns.all()[idx] == "AGE" {
                // Youngest first: ages are shown in units that do not compare.
                items.sort_by_key(|item| std::cmp::Reverse(item.resource["createdTS"].as_i64()));
            } else {
                items.sort_by_cached_key(|item| sortable(item.cells.get(idx).map_or("", String::as_str)));
            }
        }
        if let Some(format) = &shape.format {
            return formatted(format, &items);
        }
        let lines = |text: fn(&Item) -> String| items.iter().map(|item| text(item) + "\n").collect::<String>();
        Ok(match self.format {
            Format::Json => pretty(&items.iter().map(Item::json).collect()) + "\n",
            Format::Api => pretty(&items.iter().map(|item| item.resource.clone()).collect()) + "\n",
            Format::Jsonl => lines(|item| item.json().to_string()),
            Format::Yaml => yaml(&items.iter().map(Item::json).collect())?,
            Format::Name => lines(|item| item.name.clone()),
            Format::Id => lines(|item| item.id.clone()),
            Format::Table | Format::Wide => {
                let all = columns.all();
                let picked: Vec<usize> = if !shape.columns.is_empty() {
                    shape.columns.iter().map(|title| columns.find(title)).collect::<Result<_, _>>()?
                } else if self.format == Format::Wide {
                    (0..all.len()).collect()
                } else {
                    (0..columns.usual.len()).collect()
                };
                let titles: Vec<&str> = picked.iter().map(|idx| all[*idx]).collect();
                let row = |item: &Item| -> Vec<String> {
                    picked.iter().map(|idx| item.cells.get(*idx).cloned().unwrap_or_default()).collect()
                };
                self.table(&titles, &items.iter().map(row).collect::<Vec<_>>())
            }
        })
    }

    /// One object.
    pub fn object(&self, value: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Yaml => self.text(&yaml(value)?),
            Format::Jsonl => self.line(&value.to_string()),
            Format::Id => self.line(value.get("id").and_then(Value::as_str).unwrap_or_default()),
            Format::Name => self.line(value.get("name").and_then(Value::as_str).unwrap_or_default()),
            Format::Json | Format::Api | Format::Table | Format::Wide => self.line(&pretty(value)),
        }
    }

    fn table(&self, titles: &[&str], rows: &[Vec<String>]) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        // Nothing is cut or wrapped when a program reads it.
        let arrangement =
            if std::io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
        table.set_content_arrangement(arrangement);
        let colour = self.colour.on_stdout();
        if colour {
            table.enforce_styling();
            // `Colour` has decided; by itself crossterm would let NO_COLOR win over `--color always`.
            crossterm::style::force_color_output(true);
        }
        if self.headers {
            table.set_header(titles);
        }
        for row in rows {
            let cells = row.iter().zip(titles).map(|(text, title)| {
                let ink = paint::state(text).filter(|_| colour && *title == "STATE");
                match ink {
                    Some(ink) => Cell::new(text).fg(color(ink)),
                    None => Cell::new(text),
                }
            });
            table.add_row(cells);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        if rows.is_empty() && !self.headers {
            return String::new();
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
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

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// As the old command line had it: a line per item.
fn formatted(format: &str, items: &[Item]) -> Result<String, Failure> {
    if format == "json" {
        return Ok(items.iter().map(|item| item.old().to_string() + "\n").collect());
    }
    let template = Template::parse(format).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(items.iter().map(|item| template.render(&item.old()) + "\n").collect())
}

fn color(ink: Ink) -> Color {
    match ink {
        Ink::Red => Color::DarkRed,
        Ink::Green => Color::DarkGreen,
        Ink::Yellow => Color::DarkYellow,
    }
}

fn yaml(value: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(|error| Failure::new(1, error.to_string()))
}

/// A key by which `web_10` comes after `web_9`, and `1.5 GiB` after `200 MiB`.
fn sortable(cell: &str) -> Vec<(u128, String)> {
    const UNITS: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB"];
    if let Some((number, unit)) = cell.split_once(' ')
        && let (Ok(number), Some(power)) = (number.parse::<f64>(), UNITS.iter().position(|known| *known == unit))
    {
        let n_bytes = number * 1024_f64.powi(i32::try_from(power).unwrap_or(0));
        return vec![(n_bytes as u128, String::new())];
    }
    // Pieces of text, each with the number before it.
    let mut pieces = Vec::new();
    let mut rest = cell;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let text = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (text, after) = after.split_at(text);
        pieces.push((number.parse().unwrap_or(u128::MAX), text.to_lowercase()));
        rest = after;
    }
    pieces
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
    fn cells_sort_as_people_read_them() {
        for sorted in [
            &["a_db_1", "a_web_9", "a_web_10", "b"][..],
            &["2/3", "10/10"],
            &["200 MiB", "1.5 GiB"],
            &["", "10.42.0.9", "10.42.0.10"],
        ] {
            let mut cells = sorted.to_vec();
            cells.reverse();
            cells.sort_by_key(|cell| sortable(cell));
            assert_eq!(cells, sorted);
        }
    }

    #[test]
    fn lists_have_the_columns_and_the_order_asked_for() {
        let columns = Columns { usual: &["NAME", "STATE"], wide: &["AGE"] };
        let item = |name: &str, created: i64| Item {
            name: name.to_owned(),
            cells: vec![name.to_owned(), "active".to_owned(), format!("{created}s")],
            resource: json!({"createdTS": created}),
            ..Item::default()
        };
        let check = |options: &[&str], colour: Colour, expected: &str| {
            #[derive(clap::Parser)]
            struct Line {
                #[command(flatten)]
                shape: Shape,
            }
            let line = <Line as clap::Parser>::parse_from([&["list"], options].concat());
            let out = Out { format: Format::Table, headers: true, colour };
            let section = Section { columns, items: vec![item("b", 1), item("a", 2)] };
            assert_eq!(out.render(section, &line.shape).expect("renders"), expected);
        };
        check(&[], Colour::Never, "NAME  STATE\nb     active\na     active\n");
        check(&["--sort-by", "name", "--columns", "name"], Colour::Never, "NAME\na\nb\n");
        check(&["--format", "{{.Name}}={{.State}}"], Colour::Never, "b=\na=\n");
        check(&["--sort-by", "age", "--columns", "age"], Colour::Never, "AGE\n2s\n1s\n");
        check(
            &["--columns", "state"],
            Colour::Always,
            "STATE\n\u{1b}[38;5;2mactive  \u{1b}[39m\n\u{1b}[38;5;2mactive  \u{1b}[39m\n",
        );
    }

    #[test]
    fn ages_use_the_largest_fitting_unit() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d"), (-5, "0s")] {
            assert_eq!(age(0, seconds * 1000), text);
        }
    }
}
