//! What happened, in order, as one hash: two runs of a seed are the same run if and only if their hashes are.

use ring::digest::{Context, SHA256};

/// One line: when, where, what, and two numbers that say more.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Virtual milliseconds since the beginning.
    pub at: u64,
    /// The node, or [`Line::NOWHERE`].
    pub place: usize,
    /// A word.
    pub what: &'static str,
    /// A number that says more.
    pub one: u64,
    /// Another.
    pub two: u64,
}

impl Line {
    /// The coordinator, the broker, or people.
    pub const NOWHERE: usize = usize::MAX;
}

/// Hashes lines, and prints those of one place if asked.
pub struct Trace {
    context: Context,
    printing: Option<Printing>,
    lines: u64,
}

/// Which lines are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printing {
    /// All.
    All,
    /// Those of one node, and those of no node.
    Node(usize),
}

impl Trace {
    /// An empty trace.
    pub fn new(printing: Option<Printing>) -> Self {
        Self { context: Context::new(&SHA256), printing, lines: 0 }
    }

    /// Adds a line.
    pub fn note(&mut self, line: Line) {
        self.lines += 1;
        let mut bytes = [0; 32];
        let numbers = [line.at, line.place as u64, line.one, line.two];
        for (to, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        self.context.update(&bytes);
        self.context.update(line.what.as_bytes());
        if self.printing.is_some_and(|printing| printing.shows(line.place)) {
            print(line);
        }
    }

    /// Adds what has no place in a line, such as a message.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// How many lines there are.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The hash of all lines, in hexadecimal digits.
    pub fn hash(&self) -> String {
        let digest = self.context.clone().finish();
        let first: [u8; 16] = std::array::from_fn(|n| digest.as_ref()[n]);
        format!("{:032x}", u128::from_be_bytes(first))
    }
}

impl Printing {
    fn shows(self, place: usize) -> bool {
        match self {
            Self::All => true,
            Self::Node(node) => place == node || place == Line::NOWHERE,
        }
    }
}

fn print(line: Line) {
    let (secs, millis) = (line.at / 1_000, line.at % 1_000);
    let (day, hour, minute, second) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60, secs % 60);
    let place = if line.place == Line::NOWHERE { "-".to_owned() } else { format!("n{}", line.place) };
    println!(
        "{day:>3}d {hour:02}:{minute:02}:{second:02}.{millis:03} {place:>6} {} {} {}",
        line.what, line.one, line.two
    );
}
