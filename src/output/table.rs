//! A grid of records, and lists of fields; both readable on a screen of 20 columns.

use comfy_table::{Attribute, ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::wrap::wrap;
use super::{Screen, Tone, harmless};

/// A text and what it means.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text of a tone.
    pub(crate) fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self {
            text: harmless(text.as_ref()),
            tone,
        }
    }
}

impl Cell {
    /// The text alone, in its tone.
    pub(crate) fn render(&self, screen: Screen) -> String {
        self.tone.paint(&self.text, screen.colored)
    }

    /// The same with blanks behind it, up to a width.
    pub(crate) fn padded(&self, width: usize, screen: Screen) -> String {
        let blanks = width.saturating_sub(self.text.chars().count());
        format!("{}{}", self.render(screen), " ".repeat(blanks))
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Columns between two columns of a table.
const GAP: u16 = 2;

/// Records with the same columns: a table where that fits, else one record below the other.
#[derive(Debug)]
pub(crate) struct Grid {
    columns: Vec<&'static str>,
    records: Vec<Vec<Cell>>,
}

impl Grid {
    /// No records yet.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self {
            columns: columns.to_vec(),
            records: Vec::new(),
        }
    }

    /// One more record, a cell a column.
    pub(crate) fn push(&mut self, record: Vec<Cell>) {
        self.records.push(record);
    }

    /// The text for a screen.
    pub(crate) fn render(&self, screen: Screen) -> String {
        let table = match screen.width {
            None => self.table(screen.colored),
            Some(width) if width >= self.least_width() => {
                let mut table = self.table(screen.colored);
                self.squeeze(&mut table, width);
                table
            }
            Some(_) => return self.one_below_the_other(screen),
        };
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn table(&self, colored: bool) -> Table {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        if colored {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(
            self.columns
                .iter()
                .map(|column| comfy_table::Cell::new(column).add_attribute(Attribute::Bold)),
        );
        for record in &self.records {
            table.add_row(record.iter().map(|cell| {
                let shown = comfy_table::Cell::new(&cell.text);
                match cell.tone.color() {
                    Some(color) => shown.fg(color),
                    None => shown,
                }
            }));
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, self.gap_after(index)));
        }
        table
    }

    /// Wraps cells so that the table fits, and breaks no word.
    fn squeeze(&self, table: &mut Table, width: usize) {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(u16::try_from(width).unwrap_or(u16::MAX));
        table.set_constraints(self.longest_words().enumerate().map(|(index, longest)| {
            let longest = u16::try_from(longest).unwrap_or(u16::MAX);
            let width = longest.saturating_add(self.gap_after(index));
            ColumnConstraint::LowerBoundary(Width::Fixed(width))
        }));
    }

    /// Columns between this column of the table and the next.
    fn gap_after(&self, column: usize) -> u16 {
        if column + 1 < self.columns.len() {
            GAP
        } else {
            0
        }
    }

    /// Columns of the narrowest table that breaks no word.
    fn least_width(&self) -> usize {
        let gaps = usize::from(GAP) * self.columns.len().saturating_sub(1);
        self.longest_words().sum::<usize>() + gaps
    }

    /// The length of the longest word of each column.
    fn longest_words(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().enumerate().map(|(index, column)| {
            let cells = self
                .records
                .iter()
                .filter_map(move |record| record.get(index));
            let texts = cells.map(|cell| cell.text.as_str()).chain([*column]);
            let lengths = texts.flat_map(|text| text.split(' ').map(|word| word.chars().count()));
            lengths.max().unwrap_or(0)
        })
    }

    fn one_below_the_other(&self, screen: Screen) -> String {
        let mut text = String::new();
        for (index, record) in self.records.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            let mut cells = record.iter();
            let mut fields = Fields::new(cells.next().map_or("", |cell| &cell.text));
            for (column, cell) in self.columns.iter().skip(1).zip(cells) {
                fields.push(&column.to_lowercase(), cell.clone());
            }
            text.push_str(&fields.render(screen));
        }
        text
    }
}

/// A heading, and names with their values below it.
#[derive(Debug)]
pub(crate) struct Fields {
    heading: String,
    fields: Vec<(String, Cell)>,
}

/// Columns before a name.
const INDENT: usize = 2;
/// Fewest columns that a value is given beside its name; with less it goes below.
const LEAST_VALUE: usize = 16;

impl Fields {
    /// No fields yet.
    pub(crate) fn new(heading: &str) -> Self {
        Self {
            heading: harmless(heading),
            fields: Vec::new(),
        }
    }

    /// One more field.
    pub(crate) fn push(&mut self, name: &str, value: impl Into<Cell>) -> &mut Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// The text for a screen.
    pub(crate) fn render(&self, screen: Screen) -> String {
        let names = self.fields.iter().map(|(name, _)| name.chars().count());
        let name_width = names.max().unwrap_or(0);
        let width = screen.width.unwrap_or(usize::MAX);
        let beside = INDENT + name_width + 2;
        let mut text = Tone::Heading.paint(&self.heading, screen.colored);
        text.push('\n');
        for (name, value) in &self.fields {
            let paint = |line: &str| value.tone.paint(line, screen.colored);
            if width >= beside.saturating_add(LEAST_VALUE) {
                let mut lines = wrap(&value.text, width.saturating_sub(beside)).into_iter();
                let first = lines.next().unwrap_or_default();
                text.push_str(&format!(
                    "{:INDENT$}{name:name_width$}  {}\n",
                    "",
                    paint(&first)
                ));
                for line in lines {
                    text.push_str(&format!("{:beside$}{}\n", "", paint(&line)));
                }
                continue;
            }
            let in_one_line = INDENT + name.chars().count() + 2 + value.text.chars().count();
            if in_one_line <= width {
                text.push_str(&format!("{:INDENT$}{name}  {}\n", "", paint(&value.text)));
                continue;
            }
            text.push_str(&format!("{:INDENT$}{name}\n", ""));
            for line in wrap(&value.text, width.saturating_sub(2 * INDENT)) {
                text.push_str(&format!("{:1$}{2}\n", "", 2 * INDENT, paint(&line)));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new(&["ADDRESS", "STATE"]);
        grid.push(vec!["0000:01:00.0".into(), Cell::new("Faulted", Tone::Bad)]);
        grid.push(vec![
            "0000:02:00.0".into(),
            Cell::new("Running", Tone::Good),
        ]);
        grid
    }

    fn screen(width: Option<usize>) -> Screen {
        Screen {
            height: None,
            width,
            colored: false,
        }
    }

    #[test]
    fn where_it_fits_records_are_rows() {
        let table = "ADDRESS       STATE\n0000:01:00.0  Faulted\n0000:02:00.0  Running\n";
        assert_eq!(grid().render(screen(None)), table);
        assert_eq!(grid().render(screen(Some(21))), table);
    }

    #[test]
    fn where_it_nearly_fits_cells_are_wrapped_between_words() {
        let mut grid = Grid::new(&["ADDRESS", "HELD BY"]);
        grid.push(vec!["0000:01:00.0".into(), "process 4711 (python3)".into()]);
        let table = "ADDRESS       HELD BY\n0000:01:00.0  process\n              4711\n              (python3)\n";
        assert_eq!(grid.render(screen(Some(24))), table);
        assert_eq!(grid.render(screen(Some(36))).lines().count(), 2);
    }

    #[test]
    fn where_it_does_not_fit_each_record_is_a_list() {
        let list = "0000:01:00.0\n  state  Faulted\n\n0000:02:00.0\n  state  Running\n";
        assert_eq!(grid().render(screen(Some(20))), list);
    }

    #[test]
    fn no_screen_is_too_narrow() {
        for width in 0..60 {
            assert!(grid().render(screen(Some(width))).contains("Faulted"));
        }
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let colored = Screen {
            height: None,
            width: Some(21),
            colored: true,
        };
        let text = grid().render(colored);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("\u{1b}["), "{text}");
        for line in text.lines() {
            // What is between an escape and its `m` is not shown.
            let shown = line
                .split('\u{1b}')
                .enumerate()
                .map(|(index, part)| match index {
                    0 => part,
                    _ => part.split_once('m').map_or("", |(_, shown)| shown),
                });
            assert!(shown.map(str::len).sum::<usize>() <= 21, "{line:?}");
        }
    }

    #[test]
    fn a_value_without_room_beside_its_name_goes_below() {
        let mut fields = Fields::new("Chip");
        fields.push("model", "A1").push("link", "32.0 GT/s PCIe");
        let text = fields.render(screen(Some(20)));
        assert_eq!(text, "Chip\n  model  A1\n  link\n    32.0 GT/s PCIe\n");
    }

    #[test]
    fn long_values_go_on_below_themselves() {
        let mut fields = Fields::new("Link");
        fields.push("speed", "32.0 GT/s PCIe, and more of it");
        let text = fields.render(screen(Some(26)));
        assert_eq!(
            text,
            "Link\n  speed  32.0 GT/s PCIe,\n         and more of it\n"
        );
    }
}
