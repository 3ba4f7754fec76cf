//! What the parts of a machine take: messages, a rank's own work, its pauses, its files. Read from TOML, where each
//! number stands beside its source:
//!
//! ```toml
//! [network.remote]
//! latency_ns = { value = 1280, source = "osu_latency …, less the CPU parts" }
//! ```
//!
//! Knows nothing of what is simulated with it.

use crate::task::io_cause;
use std::collections::BTreeMap;
use std::path::Path;
use toml::{Table, Value};

/// The longest time that a figure may say, nanoseconds: some eleven days. Sums of many then fit 64 bits.
const MOST_NS: f64 = 1e15;

/// The models that are built in, by name.
const BUILT_IN: [(&str, &str); 4] = [
    ("gemini", include_str!("models/gemini.toml")),
    ("infiniband", include_str!("models/infiniband.toml")),
    ("local", include_str!("models/local.toml")),
    ("slingshot", include_str!("models/slingshot.toml")),
];

/// A number of a model, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// In the unit that its key names.
    pub value: f64,
    /// Where it was measured or published; for what is derived from others, `estimate: ` and how.
    pub source: String,
}

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No model of that name is built in.
    #[error("there is no model \"{0}\": it is one of {names}, or a file", names = Model::names().join(", "))]
    Unknown(String),
    /// The file is missing or cannot be read.
    #[error("{file}: {}", io_cause(source))]
    Unreadable {
        /// As the user wrote it.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The text is no TOML.
    #[error("{file}:{line}: {cause}")]
    Syntax {
        /// As the user wrote it, or the name of a model.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        cause: String,
    },
    /// A key is missing, unknown, or its value is wrong.
    #[error("{file}: {key}: {cause}")]
    Key {
        /// As the user wrote it, or the name of a model.
        file: String,
        /// With its sections: `network.remote.latency_ns`.
        key: String,
        /// What is wrong.
        cause: String,
    },
}

/// A machine: its numbers, each with its source.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    figures: BTreeMap<&'static str, Figure>,
    numbers: Numbers,
}

/// The numbers of a model without their sources.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// What messages take.
    pub network: Network,
    /// What a rank's own work takes.
    pub rank: RankCosts,
    /// How a waiting rank sleeps.
    pub idle: IdlePauses,
    /// What file operations take.
    pub files: Files,
}

/// What messages take.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Between ranks of one node.
    pub local: Link,
    /// Between nodes.
    pub remote: Link,
}

/// What a message takes, after LogGP (Alexandrov, Ionescu, Schauser, Scheiman: LogGP: Incorporating Long Messages into the
/// LogP Model, SPAA 1995). One of `b` bytes is there after `send_ns + latency_ns + hops × hop_ns + b × byte_ns +
/// receive_ns`.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The wire, one way, beyond the CPU parts.
    pub latency_ns: u64,
    /// CPU time of the sender for each message.
    pub send_ns: u64,
    /// CPU time of the receiver for each message.
    pub receive_ns: u64,
    /// The inverse of the bandwidth of one rank's stream, nanoseconds for each byte.
    pub byte_ns: f64,
    /// A switch or router more on the way. 0 within a node.
    pub hop_ns: u64,
    /// Switches or routers on the way, the mean, beyond those that the latency includes. 0 within a node.
    pub hops: f64,
}

impl Link {
    /// From the end of sending until so many bytes are there to be received.
    pub(super) fn way_ns(&self, bytes: u64) -> u64 {
        self.latency_ns + (bytes as f64 * self.byte_ns + self.hops * self.hop_ns as f64) as u64
    }
}

/// What a rank's own work takes.
#[derive(Clone, Debug, PartialEq)]
pub struct RankCosts {
    /// Scheduling work for one message, beyond MPI's.
    pub handle_ns: u64,
    /// The same for each range, or run of tasks, in the message.
    pub range_ns: u64,
    /// What calling a function adds to it.
    pub call_ns: u64,
    /// How long a slot is idle between two batches of functions.
    pub batch_ns: u64,
    /// The part of starting a process that a rank does for one process after the other, however many slots it has.
    pub spawn_ns: u64,
    /// What a process takes of its slot besides its own run and `spawn_ns`.
    pub process_ns: u64,
}

/// How a waiting rank sleeps: after `spin_ns`, always for a part of the time it has waited.
#[derive(Clone, Debug, PartialEq)]
pub struct IdlePauses {
    /// A message that comes within this time is taken up at once.
    pub spin_ns: u64,
    /// It sleeps for this part of the time it has waited.
    pub part: f64,
    /// The shortest pause.
    pub least_ns: u64,
    /// The longest pause; not below the shortest.
    pub most_ns: u64,
}

/// What file operations take.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// Until an append has reached the page cache or the server.
    pub write_ns: u64,
    /// Making a file.
    pub create_ns: u64,
    /// Until what was written survives the loss of the node.
    pub sync_ns: u64,
    /// The most that the shared server does for all nodes together; above zero.
    pub operations_per_second: f64,
}

impl Model {
    /// The names of the models that are built in, in order.
    pub fn names() -> [&'static str; BUILT_IN.len()] {
        BUILT_IN.map(|(name, _)| name)
    }

    /// A model that is built in.
    pub fn named(name: &str) -> Result<Model, ModelError> {
        let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
        let (_, text) = built_in.ok_or_else(|| ModelError::Unknown(name.to_owned()))?;
        Self::parse(name, text)
    }

    /// The model in a file.
    pub fn read(path: &Path) -> Result<Model, ModelError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(source) => Err(ModelError::Unreadable { file, source }),
        }
    }

    /// The numbers alone.
    pub fn numbers(&self) -> Numbers {
        self.numbers.clone()
    }

    /// Each figure under its key with its sections (`network.remote.latency_ns`), in the order of the keys.
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, &Figure)> {
        self.figures.iter().map(|(key, figure)| (*key, figure))
    }

    /// The model of a text. `file`: what errors call it.
    pub fn parse(file: &str, text: &str) -> Result<Model, ModelError> {
        let table = text.parse::<Table>().map_err(|error| {
            let before = error.span().map_or(0, |span| span.start).min(text.len());
            let line = 1 + text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count();
            ModelError::Syntax { file: file.to_owned(), line, cause: error.message().to_owned() }
        })?;
        let mut reader = Reader { file, table, figures: BTreeMap::new() };
        let numbers = reader.numbers()?;
        reader.refuse_the_rest()?;
        Ok(Model { figures: reader.figures, numbers })
    }
}

/// Takes figures out of a table; what is left at the end is unknown.
struct Reader<'a> {
    file: &'a str,
    table: Table,
    figures: BTreeMap<&'static str, Figure>,
}

impl Reader<'_> {
    fn numbers(&mut self) -> Result<Numbers, ModelError> {
        let local = Link {
            latency_ns: self.ns("network.local.latency_ns")?,
            send_ns: self.ns("network.local.send_ns")?,
            receive_ns: self.ns("network.local.receive_ns")?,
            byte_ns: self.real("network.local.byte_ns")?,
            hop_ns: 0,
            hops: 0.0,
        };
        let remote = Link {
            latency_ns: self.ns("network.remote.latency_ns")?,
            send_ns: self.ns("network.remote.send_ns")?,
            receive_ns: self.ns("network.remote.receive_ns")?,
            byte_ns: self.real("network.remote.byte_ns")?,
            hop_ns: self.ns("network.remote.hop_ns")?,
            hops: self.real("network.remote.hops")?,
        };
        let rank = RankCosts {
            handle_ns: self.ns("rank.handle_ns")?,
            range_ns: self.ns("rank.range_ns")?,
            call_ns: self.ns("rank.call_ns")?,
            batch_ns: self.ns("rank.batch_ns")?,
            spawn_ns: self.ns("rank.spawn_ns")?,
            process_ns: self.ns("rank.process_ns")?,
        };
        let idle = IdlePauses {
            spin_ns: self.ns("idle.spin_ns")?,
            part: self.real("idle.part")?,
            least_ns: self.ns("idle.least_ns")?,
            most_ns: self.ns("idle.most_ns")?,
        };
        if idle.least_ns > idle.most_ns {
            return Err(self.error("idle.most_ns", "is less than idle.least_ns"));
        }
        let files = Files {
            write_ns: self.ns("files.write_ns")?,
            create_ns: self.ns("files.create_ns")?,
            sync_ns: self.ns("files.sync_ns")?,
            operations_per_second: self.real("files.operations_per_second")?,
        };
        if files.operations_per_second == 0.0 {
            return Err(self.error("files.operations_per_second", "is zero: no file operation would ever end"));
        }
        Ok(Numbers { network: Network { local, remote }, rank, idle, files })
    }

    /// A time, in whole nanoseconds.
    fn ns(&mut self, key: &'static str) -> Result<u64, ModelError> {
        let value = self.real(key)?;
        if value > MOST_NS {
            return Err(self.error(key, &format!("{value} is more than {MOST_NS:e} nanoseconds")));
        }
        Ok(value.round() as u64)
    }

    /// A number that is finite and not negative.
    fn real(&mut self, key: &'static str) -> Result<f64, ModelError> {
        let figure = self.figure(key).map_err(|cause| self.error(key, &cause))?;
        let value = figure.value;
        self.figures.insert(key, figure);
        Ok(value)
    }

    /// Takes a figure out of the table. The error is the cause alone.
    fn figure(&mut self, key: &str) -> Result<Figure, String> {
        let (sections, last) = key.rsplit_once('.').expect("each figure stands in a section");
        let mut table = &mut self.table;
        for section in sections.split('.') {
            let inner = table.get_mut(section).and_then(Value::as_table_mut);
            table = inner.ok_or_else(|| "is missing".to_owned())?;
        }
        let form = || "is no { value = …, source = \"…\" }".to_owned();
        let Value::Table(mut pair) = table.remove(last).ok_or_else(|| "is missing".to_owned())? else {
            return Err(form());
        };
        let value = match pair.remove("value") {
            Some(Value::Integer(value)) => value as f64,
            Some(Value::Float(value)) => value,
            Some(_) => return Err("its value is no number".to_owned()),
            None => return Err(form()),
        };
        let Some(Value::String(source)) = pair.remove("source") else { return Err(form()) };
        if let Some(unknown) = pair.keys().next() {
            return Err(format!("has \"{unknown}\" besides value and source"));
        }
        if source.trim().is_empty() {
            return Err("its source is empty".to_owned());
        }
        if !value.is_finite() || value < 0.0 {
            return Err(format!("{value} is negative or not finite"));
        }
        Ok(Figure { value, source })
    }

    fn refuse_the_rest(&self) -> Result<(), ModelError> {
        match first_left(&self.table, "", &self.figures) {
            Some(key) => Err(self.error(&key, "is unknown")),
            None => Ok(()),
        }
    }

    fn error(&self, key: &str, cause: &str) -> ModelError {
        ModelError::Key { file: self.file.to_owned(), key: key.to_owned(), cause: cause.to_owned() }
    }
}

/// The first key that is no section of a known figure.
fn first_left(table: &Table, prefix: &str, known: &BTreeMap<&'static str, Figure>) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let path = format!("{prefix}{key}");
        let section = format!("{path}.");
        match value {
            Value::Table(inner) if known.keys().any(|key| key.starts_with(&section)) => {
                first_left(inner, &section, known)
            }
            _ => Some(path),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: &str = include_str!("models/local.toml");

    /// What is said of a built-in model's text with one part replaced.
    fn refusal(from: &str, to: &str) -> String {
        assert!(SOME.contains(from), "{from}");
        Model::parse("m.toml", &SOME.replacen(from, to, 1)).expect_err(to).to_string()
    }

    /// A model's text with another value for a key that only one section has.
    fn with_value(key: &str, value: &str) -> String {
        let start = SOME.find(&format!("\n{key} = ")).expect("a key") + 1;
        let end = start + SOME[start..].find('\n').expect("a line");
        format!("{}{key} = {value}{}", &SOME[..start], &SOME[end..])
    }

    fn refused_value(key: &str, value: &str) -> String {
        Model::parse("m.toml", &with_value(key, value)).expect_err(value).to_string()
    }

    #[test]
    fn every_model_is_read_and_each_figure_has_a_source() {
        for name in Model::names() {
            let model = Model::named(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(model.figures().count(), 24, "{name}");
            for (key, figure) in model.figures() {
                assert!(!figure.source.trim().is_empty(), "{name}: {key}");
            }
        }
    }

    #[test]
    fn numbers_are_the_figures() {
        for name in Model::names() {
            let model = Model::named(name).expect(name);
            let value = |wanted: &str| model.figures().find(|(key, _)| *key == wanted).expect(wanted).1.value;
            let numbers = model.numbers();
            assert_eq!(numbers.network.remote.latency_ns as f64, value("network.remote.latency_ns"));
            assert_eq!(numbers.network.remote.hops, value("network.remote.hops"));
            assert_eq!(numbers.rank.process_ns as f64, value("rank.process_ns"));
            assert_eq!(numbers.files.operations_per_second, value("files.operations_per_second"));
            assert_eq!((numbers.network.local.hop_ns, numbers.network.local.hops), (0, 0.0));
        }
    }

    #[test]
    fn a_model_is_read_from_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        std::fs::write(&path, SOME).expect("a file");
        assert_eq!(Model::read(&path).expect("a model"), Model::named("local").expect("a model"));
        let missing = folder.path().join("none.toml");
        let error = Model::read(&missing).expect_err("no file").to_string();
        assert_eq!(error, format!("{}: No such file or directory", missing.display()));
    }

    #[test]
    fn a_name_that_is_not_known_is_told_with_those_that_are() {
        let error = Model::named("aries").expect_err("not built in").to_string();
        assert_eq!(error, "there is no model \"aries\": it is one of gemini, infiniband, local, slingshot, or a file");
    }

    #[test]
    fn errors_name_file_key_and_cause() {
        let figure = |value: &str| format!("{{ value = {value}, source = \"s\" }}");
        for (value, cause) in [
            (figure("-1"), "-1 is negative or not finite"),
            (figure("inf"), "inf is negative or not finite"),
            (figure("nan"), "NaN is negative or not finite"),
            (figure("2e15"), "2000000000000000 is more than 1e15 nanoseconds"),
            (figure("\"5\""), "its value is no number"),
            ("5".to_owned(), "is no { value = …, source = \"…\" }"),
            ("{ value = 5 }".to_owned(), "is no { value = …, source = \"…\" }"),
            ("{ source = \"s\" }".to_owned(), "is no { value = …, source = \"…\" }"),
            ("{ value = 5, source = \" \" }".to_owned(), "its source is empty"),
            ("{ value = 5, source = \"s\", unit = \"ns\" }".to_owned(), "has \"unit\" besides value and source"),
        ] {
            assert_eq!(refused_value("call_ns", &value), format!("m.toml: rank.call_ns: {cause}"));
        }
        let zero = refused_value("operations_per_second", &figure("0"));
        assert_eq!(zero, "m.toml: files.operations_per_second: is zero: no file operation would ever end");
        let short = refused_value("most_ns", &figure("1"));
        assert_eq!(short, "m.toml: idle.most_ns: is less than idle.least_ns");
    }

    #[test]
    fn unknown_and_missing_keys_are_refused() {
        assert_eq!(refusal("\nspawn_ns", "\nspwan_ns"), "m.toml: rank.spawn_ns: is missing");
        assert_eq!(refusal("[files]", "[disks]"), "m.toml: files.write_ns: is missing");
        let more = |text: &str| Model::parse("m.toml", &format!("{SOME}{text}")).expect_err(text).to_string();
        assert_eq!(more("open_ns = { value = 1, source = \"s\" }\n"), "m.toml: files.open_ns: is unknown");
        assert_eq!(more("[network.loopback]\n"), "m.toml: network.loopback: is unknown");
        assert_eq!(more("[gpus]\n"), "m.toml: gpus: is unknown");
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        let error = Model::parse("m.toml", "\n\nlatency_ns == 5\n").expect_err("no TOML").to_string();
        assert!(error.starts_with("m.toml:3: "), "{error}");
    }
}
