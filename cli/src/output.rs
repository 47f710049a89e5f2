//! Results on standard output: one definition of rows, printed as a table or as JSON.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    Table,
    /// JSON for programs.
    Json,
}

/// Rows under named columns.
#[derive(Debug)]
pub struct Rows {
    columns: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Rows {
    /// No rows yet. Columns are named as the keys of the JSON objects: lower-case, with underscores.
    pub fn new(columns: &'static [&'static str]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row: one value per column.
    pub fn push<const N: usize>(&mut self, row: [Value; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(row.into());
    }

    /// Prints the rows: a table with a line per row, or a JSON array with an object per row.
    pub fn print(self, format: Format) -> io::Result<()> {
        match format {
            Format::Json => print_json(&Value::Array(self.objects())),
            Format::Table => print_text(&self.table()),
        }
    }

    /// Prints the only row: a line per column, or one JSON object.
    pub fn print_one(self, format: Format) -> io::Result<()> {
        match format {
            Format::Json => print_json(&self.objects().pop().unwrap_or(Value::Null)),
            Format::Table => {
                let width = self.columns.iter().map(|column| column.len()).max().unwrap_or(0);
                let row = self.rows.into_iter().next_back().unwrap_or_default();
                let lines = self
                    .columns
                    .iter()
                    .zip(&row)
                    .filter(|(_, value)| !value.is_null());
                let lines = lines.map(|(column, value)| format!("{:width$}  {}", title(column), text(value)));
                print_text(&lines.collect::<Vec<_>>().join("\n"))
            }
        }
    }

    /// The rows as JSON objects.
    pub fn objects(&self) -> Vec<Value> {
        let object = |row: &Vec<Value>| {
            let entries = self
                .columns
                .iter()
                .zip(row)
                .map(|(column, value)| ((*column).to_owned(), value.clone()));
            Value::Object(entries.collect::<Map<_, _>>())
        };
        self.rows.iter().map(object).collect()
    }

    /// The rows as a table.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(self.columns.iter().map(|column| title(column).to_uppercase()));
        for row in &self.rows {
            table.add_row(row.iter().map(text));
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.rows.iter().any(|row| row[index].is_number()) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Prints a JSON value over several lines.
pub fn print_json(value: &Value) -> io::Result<()> {
    print_text(&serde_json::to_string_pretty(value).map_err(io::Error::from)?)
}

/// Prints lines. A reader that went away is an error here, not a panic.
pub fn print_text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// A number of bytes for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (count.max(1).ilog2() as usize / 10).min(UNITS.len() - 1);
    if unit == 0 {
        format!("{count} B")
    } else {
        format!(
            "{:.1} {}",
            count as f64 / (1_u64 << (10 * unit)) as f64,
            UNITS[unit]
        )
    }
}

fn title(column: &str) -> String {
    column.replace('_', " ")
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_definition_gives_a_table_and_json() {
        let mut rows = Rows::new(&["name", "end_offset"]);
        rows.push([json!("flights"), json!(1200)]);
        rows.push([json!("b"), Value::Null]);
        assert_eq!(
            rows.table(),
            "NAME     END OFFSET\nflights        1200\nb                 -"
        );
        assert_eq!(rows.objects()[0], json!({"name": "flights", "end_offset": 1200}));
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(
            (bytes(0), bytes(1023), bytes(1536)),
            ("0 B".into(), "1023 B".into(), "1.5 KiB".into())
        );
    }
}
