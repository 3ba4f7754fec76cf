//! Files of the run: each appender writes one group after the other, what comes meanwhile waits for the next. All share a
//! server that makes so many files a second; what is appended is the node's own business until it is synced.

use super::Nanos;
use super::model::Files;

/// The file system, as far as nodes have to share it.
pub(super) struct FileServer {
    files: Files,
    /// Time between two operations at its most.
    gap: Nanos,
    free_at: Nanos,
    /// Nothing can be written from then on.
    full_from: Nanos,
    pub(super) creates: u64,
    pub(super) writes: u64,
    pub(super) bytes: u64,
}

impl FileServer {
    pub(super) fn new(files: &Files) -> Self {
        let gap = (1e9 / files.operations_per_second) as Nanos;
        Self { files: files.clone(), gap, free_at: 0, full_from: Nanos::MAX, creates: 0, writes: 0, bytes: 0 }
    }

    /// Writing and making a file takes no less than this.
    pub(super) fn slow_down(&mut self, least: Nanos) {
        self.files.write_ns = self.files.write_ns.max(least);
        self.files.create_ns = self.files.create_ns.max(least);
    }

    /// Nothing can be written any more.
    pub(super) fn fill(&mut self, at: Nanos) {
        self.full_from = self.full_from.min(at);
    }

    /// Whether nothing can be written.
    pub(super) fn is_full(&self, at: Nanos) -> bool {
        at >= self.full_from
    }

    /// Makes a file; when it is there.
    fn create(&mut self, at: Nanos) -> Nanos {
        self.creates += 1;
        self.free_at = self.free_at.max(at) + self.gap;
        self.free_at.max(at + self.files.create_ns)
    }

    /// A write from `from` on; when it is done.
    fn write(&mut self, from: Nanos) -> Nanos {
        self.writes += 1;
        from + self.files.write_ns
    }
}

/// A file that grows at its end. It is made at its first write.
#[derive(Debug, Default)]
pub(super) struct Appender {
    bytes: u64,
    /// Of which so many are written when the write under way has ended, and so many were before it.
    writing: u64,
    written: u64,
    created: bool,
    /// The write under way ends then …
    writing_until: Nanos,
    /// … and what came meanwhile is written then.
    next_until: Option<Nanos>,
}

impl Appender {
    /// Bytes appended so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How much of it is written.
    pub(super) fn written(&self, at: Nanos) -> u64 {
        match self.next_until {
            Some(until) if at >= until => self.bytes,
            _ if at >= self.writing_until => self.writing,
            _ => self.written,
        }
    }

    /// When more is written than so much.
    pub(super) fn written_beyond(&self, known: u64) -> Option<Nanos> {
        if self.written > known {
            Some(0)
        } else if self.writing > known {
            Some(self.writing_until)
        } else {
            self.next_until.filter(|_| self.bytes > known)
        }
    }

    /// Appends; when it is written.
    pub(super) fn append(&mut self, at: Nanos, bytes: u64, server: &mut FileServer) -> Nanos {
        if let Some(until) = self.next_until
            && at >= self.writing_until
        {
            (self.writing_until, self.next_until) = (until, None);
            (self.written, self.writing) = (self.writing, self.bytes);
        }
        self.bytes += bytes;
        server.bytes += bytes;
        if at < self.writing_until {
            let from = self.writing_until;
            return *self.next_until.get_or_insert_with(|| server.write(from));
        }
        let from = if std::mem::replace(&mut self.created, true) { at } else { server.create(at) };
        (self.written, self.writing) = (self.writing, self.bytes);
        self.writing_until = server.write(from);
        self.writing_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> FileServer {
        FileServer::new(&Files { write_ns: 10_000, create_ns: 50_000, sync_ns: 0, operations_per_second: 1e6 })
    }

    #[test]
    fn what_comes_during_a_write_is_written_together_behind_it() {
        let (mut server, mut file) = (server(), Appender::default());
        assert_eq!(file.append(0, 1, &mut server), 60_000, "it is made first");
        let both = [file.append(1_000, 1, &mut server), file.append(2_000, 1, &mut server)];
        assert_eq!(both, [70_000; 2]);
        assert_eq!(file.append(65_000, 1, &mut server), 80_000);
        assert_eq!((server.creates, server.writes, server.bytes), (1, 3, 4));
    }

    #[test]
    fn a_server_makes_so_many_files_and_no_more() {
        let mut server = server();
        let last = (0..1_000).map(|_| Appender::default().append(0, 1, &mut server)).max();
        assert_eq!(last, Some(1_010_000), "a microsecond apart, and then the write");
    }
}
