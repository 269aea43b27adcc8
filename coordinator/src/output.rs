//! What a person or a pipe sees: tables, times, sizes, colours, questions. Standard output carries what was asked for,
//! standard error everything said beside it.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use orangery_wire::UnixTime;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

mod secret;

pub use secret::ask_secret;

/// What a word is meant to say by its colour. Nothing is ever said by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As any other text.
    Plain,
    /// As it should be.
    Good,
    /// Under way.
    Wait,
    /// A person must look at it.
    Bad,
}

/// A text with its tone: one cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The text; control characters in it are shown, not obeyed.
    pub text: String,
    /// The tone.
    pub tone: Tone,
}

impl Word {
    /// A word in a tone.
    pub fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: clean(text.as_ref()), tone }
    }

    /// A word as any other.
    pub fn plain(text: impl AsRef<str>) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether a terminal may be given colours: unless `NO_COLOR` is set (no-color.org).
pub fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a line to standard output, at once.
pub fn line(text: impl AsRef<str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.as_ref())?;
    out.flush()
}

/// Says something beside what was asked for, on standard error. If nobody listens there, that is no failure.
pub fn note(text: impl AsRef<str>) {
    drop(writeln!(io::stderr().lock(), "{}", text.as_ref()));
}

/// Writes a value as JSON to standard output, indented.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// Writes a value as JSON on one line.
pub fn json_line(value: &impl Serialize) -> io::Result<()> {
    line(serde_json::to_string(value)?)
}

/// A table: on a terminal as wide as that and in colours, otherwise every row on one line.
pub fn table(header: &[&str], rows: &[Vec<Word>]) -> String {
    let mut table = Table::new();
    table.set_header(header.iter().map(|title| title.to_uppercase()));
    rendered(table, rows)
}

/// Names and values, without a header.
pub fn pairs(rows: &[Vec<Word>]) -> String {
    rendered(Table::new(), rows)
}

fn rendered(mut table: Table, rows: &[Vec<Word>]) -> String {
    table.load_style(NOTHING);
    // A serial console knows no width, and calls that 0.
    let has_width = table.width().is_some_and(|columns| columns > 0);
    table.set_content_arrangement(if is_terminal() && has_width {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    });
    for row in rows {
        table.add_row(row.iter().map(coloured_cell));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn coloured_cell(word: &Word) -> Cell {
    let cell = Cell::new(&word.text);
    match word.tone {
        _ if !is_terminal() || !wants_colour() => cell,
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Wait => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
    }
}

/// The text with every control character made visible, so that what a node says cannot steer the terminal.
pub fn clean(text: &str) -> String {
    let visible = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(visible).collect()
}

/// How long ago something was: "now", "40 s ago", "3 min ago", "5 h ago", "12 days ago".
pub fn ago(then: UnixTime, now: UnixTime) -> String {
    match now.saturating_sub(then) {
        0..5 => "now".into(),
        seconds @ 5..100 => format!("{seconds} s ago"),
        seconds @ 100..6_000 => format!("{} min ago", seconds / 60),
        seconds @ 6_000..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// A moment as RFC 3339 text in UTC.
pub fn moment(at: UnixTime) -> String {
    let at = i64::try_from(at).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| "(no such time)".into())
}

/// A size for people, in decimal units: "812 bytes", "4.9 MB".
pub fn size(bytes: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

/// The time now, by this machine's clock.
pub fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A bar for work on bytes, on a terminal; nothing elsewhere.
pub fn progress(deed: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(deed.to_owned());
    bar
}

/// A text that is kept up to date in place on a terminal, with lines that stay above it. Elsewhere only the lines appear.
pub struct Live {
    bar: Option<ProgressBar>,
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

impl Live {
    /// A text that is kept up to date, if standard output is a terminal.
    pub fn new() -> Self {
        let bar = is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar }
    }

    /// Lines only.
    pub fn plain() -> Self {
        Self { bar: None }
    }

    /// Whether only lines appear.
    pub fn is_plain(&self) -> bool {
        self.bar.is_none()
    }

    /// Replaces the text.
    pub fn show(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
            bar.tick();
        }
    }

    /// Writes lines that stay.
    pub fn say(&self, text: &str) -> io::Result<()> {
        match &self.bar {
            Some(bar) => bar.suspend(|| line(text)),
            None => line(text),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // What was shown last stays on the screen.
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Asks a question that is answered with y or n, on a terminal; no is the default. `None` when nobody is there to ask.
pub fn ask(question: &str) -> io::Result<Option<bool>> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(None);
    }
    let mut err = io::stderr().lock();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(Some(matches!(answer.trim(), "y" | "Y" | "yes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_piped_has_one_line_for_each_row() {
        let long = "x".repeat(300);
        let rows = [vec![Word::plain("attic"), Word::new(&long, Tone::Bad)], vec![Word::plain("b"), Word::plain("")]];
        let text = table(&["node", "why"], &rows);
        assert_eq!(text, format!("NODE   WHY\nattic  {long}\nb"));
    }

    #[test]
    fn what_a_node_says_cannot_steer_the_terminal() {
        assert_eq!(Word::plain("a\u{1b}[2Jb\nc").text, "a\\u{1b}[2Jb\\nc");
    }

    #[test]
    fn times_and_sizes_read_as_people_say_them() {
        assert_eq!(ago(100, 102), "now");
        assert_eq!(ago(100, 140), "40 s ago");
        assert_eq!(ago(0, 300), "5 min ago");
        assert_eq!(ago(0, 7_200), "2 h ago");
        assert_eq!(ago(0, 864_000), "10 days ago");
        assert_eq!(ago(200, 100), "now");
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(u64::MAX), "(no such time)");
        assert_eq!(size(812), "812 bytes");
        assert_eq!(size(4_940_000), "4.9 MB");
    }
}
