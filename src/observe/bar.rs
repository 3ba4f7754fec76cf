//! A one-line progress bar, drawn through a [`Sink`] so that it never holds up the caller, terminal or not.

use super::sink::Sink;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Columns taken for granted where standard error is no terminal.
const DEFAULT_COLUMNS: u16 = 80;
/// Columns that a bar needs, so that text shorter by that gets one.
const BAR_COLUMNS: usize = 6;

/// A value that both the observer and the bar hold.
pub(super) type Shared<T> = Arc<Mutex<T>>;

/// The value; whoever panicked meanwhile did so with the value whole.
pub(super) fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bar on the screen.
pub(super) struct Bar {
    bar: ProgressBar,
    text: Shared<String>,
    columns: usize,
}

impl Bar {
    /// A bar that is drawn by the first `draw`.
    pub(super) fn new(sink: &Shared<Sink>) -> Self {
        let text = Shared::<String>::default();
        // The last column stays free: some terminals wrap as soon as it is written.
        let columns = columns().max(20) - 1;
        let screen = Screen { sink: sink.clone(), columns };
        let shown = text.clone();
        let text_of_bar = move |_: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = out.write_str(&lock(&shown));
        };
        let style = ProgressStyle::with_template("{wide_bar} {text}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term_like(Box::new(screen)));
        bar.set_style(style.progress_chars("━╸─").with_key("text", text_of_bar));
        Self { bar, text, columns: columns.into() }
    }

    /// Draws it anew, with so much done of all.
    pub(super) fn draw(&self, done: u64, all: u64, text: &str) {
        *lock(&self.text) = text.chars().take(self.columns.saturating_sub(BAR_COLUMNS)).collect();
        self.bar.update(|state| {
            state.set_len(all);
            state.set_pos(done);
        });
    }

    /// Takes it off the screen.
    pub(super) fn clear(self) {
        self.bar.finish_and_clear();
    }
}

fn columns() -> u16 {
    terminal_size::terminal_size_of(io::stderr())
        .map(|(width, _)| width.0)
        .filter(|n| *n > 0)
        .unwrap_or(DEFAULT_COLUMNS)
}

/// The terminal, as the bar sees it.
struct Screen {
    sink: Shared<Sink>,
    columns: u16,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Screen({})", self.columns)
    }
}

impl Screen {
    fn send(&self, text: &str) -> io::Result<()> {
        lock(&self.sink).queue(text);
        Ok(())
    }

    fn cursor(&self, by: usize, way: char) -> io::Result<()> {
        if by > 0 { self.send(&format!("\x1b[{by}{way}")) } else { Ok(()) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.columns
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.send(text)?;
        self.send("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.send(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.send("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        lock(&self.sink).pump();
        Ok(())
    }
}
