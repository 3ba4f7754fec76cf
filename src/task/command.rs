//! What one attempt runs, with every placeholder filled in. Says nothing of how a process is started.

use super::{Resources, quoting};
use std::time::Duration;

/// The program of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Program and arguments, started without a shell.
    Argv(Vec<Vec<u8>>),
    /// A line with the meaning that `sh -c LINE` gives it.
    Shell(Vec<u8>),
    /// No process: a function that the worker calls.
    Call {
        /// Its name: `builtin:NAME`, or `PATH.so:SYMBOL`.
        function: String,
        /// What it is given.
        payload: Vec<u8>,
    },
}

impl Program {
    /// Appends the program as a person could type it into a shell.
    pub(crate) fn put_text(&self, out: &mut Vec<u8>) {
        match self {
            Program::Argv(words) => {
                for (at, word) in words.iter().enumerate() {
                    if at > 0 {
                        out.push(b' ');
                    }
                    quoting::quote_word(word, out);
                }
            }
            Program::Shell(line) => out.extend_from_slice(line),
            Program::Call { function, payload } => {
                out.extend_from_slice(function.as_bytes());
                out.push(b' ');
                quoting::quote_word(payload, out);
            }
        }
    }
}

/// One attempt's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What runs.
    pub program: Program,
    /// Variables set on top of the rank's environment; each name once.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory, created when missing; the folder in which the run was started where there is none.
    pub cwd: Option<Vec<u8>>,
    /// File that standard input is read from; `/dev/null` where there is none.
    pub stdin: Option<Vec<u8>>,
    /// Time limit of one attempt.
    pub timeout: Option<Duration>,
    /// What the attempt takes.
    pub resources: Resources,
    /// `MYRIARCH_ENTRY`: the line or row of the task, cut to `Command::ENTRY_BYTES`; symbolic tasks and calls have none.
    pub entry: Option<Vec<u8>>,
    /// `MYRIARCH_INDEX`: the user's index.
    pub label: u64,
}

impl Command {
    /// Bytes kept of a line or row in `entry`. Linux refuses to start a program with a variable of 128 KiB or more.
    pub const ENTRY_BYTES: usize = 64 << 10;

    /// The program that is started first, where that can be told by looking: the first word of an argv, or of a shell
    /// line whose first word is plain and none of the shell's own.
    pub fn program_name(&self) -> Option<&[u8]> {
        let line = match &self.program {
            Program::Argv(words) => return words.first().map(Vec::as_slice),
            Program::Shell(line) => line.trim_ascii_start(),
            Program::Call { .. } => return None,
        };
        let length = line.iter().position(|&byte| !quoting::is_plain(byte)).unwrap_or(line.len());
        let ends_there =
            matches!(line.get(length), None | Some(b' ' | b'\t' | b'\n' | b';' | b'|' | b'&' | b'<' | b'>'));
        let name = &line[..length];
        (length > 0 && ends_there && !quoting::is_shell_own(name)).then_some(name)
    }

    /// The command as a person could type it into a shell, for `--dry-run`. Bytes that are not UTF-8 are replaced.
    pub fn to_text(&self) -> String {
        let mut text = Vec::new();
        if let Some(cwd) = &self.cwd {
            text.extend_from_slice(b"cd ");
            quoting::quote_word(cwd, &mut text);
            text.extend_from_slice(b" && ");
        }
        for (name, value) in &self.env {
            text.extend_from_slice(name);
            text.push(b'=');
            quoting::quote_word(value, &mut text);
            text.push(b' ');
        }
        match &self.program {
            Program::Argv(_) | Program::Call { .. } => self.program.put_text(&mut text),
            // With variables in front or a redirection behind, only a shell of its own gives the line its meaning.
            Program::Shell(line) if self.env.is_empty() && self.stdin.is_none() => text.extend_from_slice(line),
            Program::Shell(line) => {
                text.extend_from_slice(b"sh -c ");
                quoting::quote_word(line, &mut text);
            }
        }
        if let Some(stdin) = &self.stdin {
            text.extend_from_slice(b" < ");
            quoting::quote_word(stdin, &mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}
