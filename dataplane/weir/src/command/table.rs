//! Tables for terminals: columns as wide as their widest cell, text to the left, numbers to the right.

use serde_json::Value;

/// Rows of cells under a heading.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

/// What a table has in one place.
#[derive(Debug)]
pub(crate) enum Cell {
    /// Aligned to the left.
    Text(String),
    /// Aligned to the right.
    Number(String),
}

impl Cell {
    /// The heading of a column of numbers.
    pub(crate) fn right(text: &str) -> Self {
        Self::Number(text.to_owned())
    }

    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&Value> for Cell {
    /// Numbers as such, texts without their quotes, nothing as a dash.
    fn from(value: &Value) -> Self {
        match value {
            Value::Number(number) => Self::Number(number.to_string()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Null => Self::Number("-".to_owned()),
            other => Self::Text(other.to_string()),
        }
    }
}

impl Table {
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text().chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| match cell {
                Cell::Text(text) => format!("{text:<width$}"),
                Cell::Number(number) => format!("{number:>width$}"),
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::default();
        table.row(["rule".into(), Cell::right("requests"), "last".into()]);
        for value in [serde_json::json!(["a long name", 7, "x"]), serde_json::json!(["b", 1_234_567_890, null])] {
            table.row(value.as_array().unwrap().iter().map(Cell::from));
        }
        let expected = "rule           requests  last\na long name           7  x\nb            1234567890     -\n";
        assert_eq!(table.to_string(), expected);
    }
}
