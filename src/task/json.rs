//! One task as one JSON object, read and written. Keys: `argv` or `shell`, `env`, `cwd`, `stdin`, `cores`, `gpus`,
//! `timeout`, `retries`; or `call`, `payload`, `cores`, `retries`; the keys that `failed.jsonl` adds are accepted and
//! ignored. Bytes that are not UTF-8 travel under `argv_base64`, `shell_base64`, `env_base64`, `cwd_base64`,
//! `stdin_base64` and `payload_base64`.

use super::base64::{base64_decode, base64_encode};
use super::command::Program;
use super::duration::{duration_from_seconds, parse_duration};
use super::function_name::is_function_name;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// What one JSON object says of its task. What is `None` is left to the options of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonTask {
    pub(super) program: Program,
    pub(super) env: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) cwd: Option<Vec<u8>>,
    pub(super) stdin: Option<Vec<u8>>,
    pub(super) timeout: Option<Duration>,
    pub(super) cores: Option<u32>,
    pub(super) gpus: Option<u32>,
    pub(super) retries: Option<u32>,
}

/// Keys that mean something.
const KEYS: [&str; 17] = [
    "argv",
    "shell",
    "call",
    "payload",
    "env",
    "cwd",
    "stdin",
    "cores",
    "gpus",
    "timeout",
    "retries",
    "argv_base64",
    "shell_base64",
    "env_base64",
    "cwd_base64",
    "stdin_base64",
    "payload_base64",
];
/// Keys of `failed.jsonl` that say how a task ended.
const IGNORED_KEYS: [&str; 8] = ["bundle", "index", "line", "status", "attempts", "node", "seconds", "stderr_tail"];

/// Reads one line. The message names the column, not the line.
pub(super) fn parse_task(line: &[u8]) -> Result<JsonTask, String> {
    if let Err(error) = std::str::from_utf8(line) {
        return Err(format!("not UTF-8 (column {}); bytes go under a …_base64 key", error.valid_up_to() + 1));
    }
    serde_json::from_slice(line).map_err(|error| {
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let bare = message.strip_suffix(&place).unwrap_or(&message);
        match error.classify() {
            serde_json::error::Category::Data => bare.to_owned(),
            _ => format!("not valid JSON: {bare} (column {})", error.column()),
        }
    })
}

/// A known name that is close to the one given, as an addition to a message: ` (did you mean "timeout"?)`.
pub(super) fn suggestion<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let lower = given.to_lowercase();
    let close = known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(given.len()) / 4)
        .min_by_key(|(distance, _)| *distance);
    match close {
        Some((_, name)) => format!(" (did you mean \"{name}\"?)"),
        None => String::new(),
    }
}

fn unknown_key(key: &str) -> String {
    // What other systems call it.
    let other = match key {
        "cmd" | "args" | "arguments" => Some("argv"),
        "command" | "commandline" => Some("shell"),
        "cpus" | "ncpus" | "threads" => Some("cores"),
        "dir" | "directory" | "workdir" => Some("cwd"),
        "environment" => Some("env"),
        "walltime" | "time" => Some("timeout"),
        "function" | "func" => Some("call"),
        _ => None,
    };
    let hint = match other {
        Some(name) => format!(" (did you mean \"{name}\"?)"),
        None => suggestion(key, KEYS),
    };
    let shown: String = key.chars().take(60).collect();
    format!("unknown key \"{shown}\"{hint}")
}

impl<'de> Deserialize<'de> for JsonTask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TaskVisitor)
    }
}

struct TaskVisitor;

/// Names the key in whose value the error lies.
fn at_key<T, E: Error>(key: &str, value: Result<T, E>) -> Result<T, E> {
    value.map_err(|error| {
        let text = error.to_string();
        let bare = text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]);
        E::custom(format_args!("\"{key}\": {bare}"))
    })
}

impl<'de> Visitor<'de> for TaskVisitor {
    type Value = JsonTask;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the key argv, shell or call")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<JsonTask, M::Error> {
        let mut draft = Draft::default();
        let mut seen = 0u32;
        while let Some(key) = map.next_key::<String>()? {
            let Some(place) = KEYS.iter().position(|known| *known == key) else {
                if !IGNORED_KEYS.contains(&key.as_str()) {
                    return Err(M::Error::custom(unknown_key(&key)));
                }
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen & 1 << place != 0 {
                return Err(M::Error::custom(format_args!("the key \"{key}\" stands twice")));
            }
            seen |= 1 << place;
            at_key(&key, draft.take(KEYS[place], &mut map))?;
        }
        draft.check().map_err(M::Error::custom)
    }
}

/// The keys as they came, before they are checked against each other.
#[derive(Default)]
struct Draft {
    argv: Option<Vec<Vec<u8>>>,
    shell: Option<Vec<u8>>,
    call: Option<String>,
    payload: Option<Vec<u8>>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    cwd: Option<Vec<u8>>,
    stdin: Option<Vec<u8>>,
    timeout: Option<Duration>,
    cores: Option<u32>,
    gpus: Option<u32>,
    retries: Option<u32>,
}

/// Sets a value that two keys may give, once.
fn set<T, E: Error>(place: &mut Option<T>, value: Option<T>) -> Result<(), E> {
    match (&place, value) {
        (Some(_), Some(_)) => Err(E::custom("given twice, as text and as base64")),
        (_, Some(value)) => {
            *place = Some(value);
            Ok(())
        }
        (_, None) => Ok(()),
    }
}

fn bytes(text: Option<String>) -> Option<Vec<u8>> {
    text.map(String::into_bytes)
}

fn decoded<E: Error>(text: &str) -> Result<Vec<u8>, E> {
    base64_decode(text).ok_or_else(|| E::custom("not base64"))
}

impl Draft {
    fn take<'de, M: MapAccess<'de>>(&mut self, key: &str, map: &mut M) -> Result<(), M::Error> {
        match key {
            "argv" => {
                let words: Option<Words> = map.next_value()?;
                set(&mut self.argv, words.map(|Words(words)| words.into_iter().map(String::into_bytes).collect()))
            }
            "argv_base64" => {
                let words: Option<Vec<String>> = map.next_value()?;
                let words = words.map(|words| words.iter().map(|word| decoded(word)).collect()).transpose()?;
                set(&mut self.argv, words)
            }
            "shell" => set(&mut self.shell, bytes(map.next_value()?)),
            "call" => {
                self.call = map.next_value()?;
                Ok(())
            }
            "payload" => set(&mut self.payload, bytes(map.next_value()?)),
            "payload_base64" => set(&mut self.payload, base64_value(map)?),
            "cwd" => set(&mut self.cwd, bytes(map.next_value()?)),
            "stdin" => set(&mut self.stdin, bytes(map.next_value()?)),
            "shell_base64" => set(&mut self.shell, base64_value(map)?),
            "cwd_base64" => set(&mut self.cwd, base64_value(map)?),
            "stdin_base64" => set(&mut self.stdin, base64_value(map)?),
            "env" => {
                let Pairs(pairs) = map.next_value()?;
                self.env.extend(pairs.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())));
                Ok(())
            }
            "env_base64" => {
                let pairs: Option<Vec<(String, String)>> = map.next_value()?;
                for (name, value) in pairs.unwrap_or_default() {
                    self.env.push((decoded(&name)?, decoded(&value)?));
                }
                Ok(())
            }
            "cores" => at_least_one(map.next_value()?, &mut self.cores),
            "gpus" => {
                self.gpus = map.next_value()?;
                Ok(())
            }
            "retries" => {
                self.retries = map.next_value()?;
                Ok(())
            }
            _ => {
                self.timeout = map.next_value::<Option<Timeout>>()?.map(|Timeout(limit)| limit);
                Ok(())
            }
        }
    }

    /// Which keys stand together.
    fn check_keys(&self) -> Result<(), String> {
        let programs = [("argv", self.argv.is_some()), ("shell", self.shell.is_some()), ("call", self.call.is_some())];
        let mut given = programs.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key);
        if let (Some(one), Some(other)) = (given.next(), given.next()) {
            return Err(format!("it has both {one} and {other}; a task runs one of them"));
        }
        if self.call.is_none() {
            return match self.payload {
                Some(_) => Err("\"payload\": it goes with \"call\", which is missing".to_owned()),
                None => Ok(()),
            };
        }
        let of_processes = [
            ("env", !self.env.is_empty()),
            ("cwd", self.cwd.is_some()),
            ("stdin", self.stdin.is_some()),
            ("timeout", self.timeout.is_some()),
            ("gpus", self.gpus.is_some()),
        ];
        match of_processes.into_iter().find(|(_, is_given)| *is_given) {
            Some((key, _)) => Err(format!("\"{key}\": it is for processes, and \"call\" starts none")),
            None => Ok(()),
        }
    }

    fn check(mut self) -> Result<JsonTask, String> {
        self.check_keys()?;
        let program = match (self.argv, self.shell, self.call) {
            (Some(words), ..) if words.first().is_none_or(Vec::is_empty) => {
                return Err("\"argv\": the command is empty".to_owned());
            }
            (_, Some(line), _) if line.iter().all(u8::is_ascii_whitespace) => {
                return Err("\"shell\": the command is empty".to_owned());
            }
            (.., Some(function)) if !is_function_name(&function) => {
                return Err("\"call\": write builtin:NAME, or PATH.so:SYMBOL".to_owned());
            }
            (Some(words), ..) => Program::Argv(words),
            (_, Some(line), _) => Program::Shell(line),
            (.., Some(function)) => Program::Call { function, payload: self.payload.take().unwrap_or_default() },
            (None, None, None) => {
                return Err("it has none of argv, shell and call, so there is nothing to run".to_owned());
            }
        };
        for (name, _) in &self.env {
            if name.is_empty() || name.contains(&b'=') {
                let name = String::from_utf8_lossy(name);
                return Err(format!("\"env\": \"{name}\" is no name for a variable"));
            }
        }
        let task = JsonTask {
            program,
            env: self.env,
            cwd: self.cwd,
            stdin: self.stdin,
            timeout: self.timeout,
            cores: self.cores,
            gpus: self.gpus,
            retries: self.retries,
        };
        let with_nul = task.texts().find(|(_, text)| text.contains(&0)).map(|(key, _)| key);
        match with_nul {
            Some(key) => Err(format!("\"{key}\": it holds a NUL byte, which no program can be given")),
            None => Ok(task),
        }
    }
}

fn base64_value<'de, M: MapAccess<'de>>(map: &mut M) -> Result<Option<Vec<u8>>, M::Error> {
    map.next_value::<Option<String>>()?.map(|text| decoded(&text)).transpose()
}

fn at_least_one<E: Error>(value: Option<u32>, place: &mut Option<u32>) -> Result<(), E> {
    if value == Some(0) {
        return Err(E::custom("a task takes at least one"));
    }
    *place = value;
    Ok(())
}

/// The words of a command.
struct Words(Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordsVisitor;
        impl<'de> Visitor<'de> for WordsVisitor {
            type Value = Words;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of words")
            }
            fn visit_str<E: Error>(self, _: &str) -> Result<Words, E> {
                Err(E::custom("it is a list of words; for a shell line write \"shell\""))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, words: S) -> Result<Words, S::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(words)).map(Words)
            }
        }
        deserializer.deserialize_any(WordsVisitor)
    }
}

/// An object of strings, in the order written.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of names and strings")
            }
            fn visit_unit<E: Error>(self) -> Result<Pairs, E> {
                Ok(Pairs(Vec::new()))
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_any(PairsVisitor)
    }
}

/// Seconds as a number, or a text such as `30s`.
struct Timeout(Duration);

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeoutVisitor;
        impl Visitor<'_> for TimeoutVisitor {
            type Value = Timeout;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds as a number, or a text such as \"30s\"")
            }
            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Timeout, E> {
                self.visit_f64(seconds as f64)
            }
            fn visit_i64<E: Error>(self, seconds: i64) -> Result<Timeout, E> {
                self.visit_f64(seconds as f64)
            }
            fn visit_f64<E: Error>(self, seconds: f64) -> Result<Timeout, E> {
                limit(duration_from_seconds(seconds))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Timeout, E> {
                limit(Some(parse_duration(text).map_err(E::custom)?))
            }
        }
        fn limit<E: Error>(time: Option<Duration>) -> Result<Timeout, E> {
            match time {
                Some(time) if !time.is_zero() => Ok(Timeout(time)),
                _ => Err(E::custom("a time limit must be longer than zero")),
            }
        }
        deserializer.deserialize_any(TimeoutVisitor)
    }
}

impl JsonTask {
    /// A task that says nothing but what it runs.
    pub(super) fn of(program: Program) -> JsonTask {
        JsonTask {
            program,
            env: Vec::new(),
            cwd: None,
            stdin: None,
            timeout: None,
            cores: None,
            gpus: None,
            retries: None,
        }
    }

    /// All texts that reach a program, with the key that they stand under.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let (key, words) = match &self.program {
            Program::Argv(words) => ("argv", words.as_slice()),
            Program::Shell(line) => ("shell", std::slice::from_ref(line)),
            // A payload may hold anything.
            Program::Call { .. } => ("payload", &[][..]),
        };
        let program = words.iter().map(move |word| (key, word.as_slice()));
        let env = self.env.iter().flat_map(|(name, value)| [("env", name.as_slice()), ("env", value.as_slice())]);
        let cwd = self.cwd.iter().map(|cwd| ("cwd", cwd.as_slice()));
        let stdin = self.stdin.iter().map(|stdin| ("stdin", stdin.as_slice()));
        program.chain(env).chain(cwd).chain(stdin)
    }

    /// The keys that `parse_task` reads as this task.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        let mut map = Map::new();
        match &self.program {
            Program::Shell(line) => insert_text(&mut map, "shell", line),
            Program::Call { function, payload } => {
                map.insert("call".to_owned(), Value::from(function.as_str()));
                insert_text(&mut map, "payload", payload);
            }
            Program::Argv(words) => match words.iter().map(|word| text_of(word)).collect::<Option<Vec<Value>>>() {
                Some(texts) => drop(map.insert("argv".to_owned(), Value::Array(texts))),
                None => {
                    drop(map.insert("argv_base64".to_owned(), words.iter().map(|word| base64_encode(word)).collect()))
                }
            },
        }
        let (texts, raw): (Vec<_>, Vec<_>) =
            self.env.iter().partition(|(name, value)| text_of(name).is_some() && text_of(value).is_some());
        if !texts.is_empty() {
            let lossless = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let object: Map<_, _> =
                texts.iter().map(|(name, value)| (lossless(name), Value::String(lossless(value)))).collect();
            map.insert("env".to_owned(), Value::Object(object));
        }
        if !raw.is_empty() {
            let pairs = raw.iter().map(|(name, value)| Value::from(vec![base64_encode(name), base64_encode(value)]));
            map.insert("env_base64".to_owned(), pairs.collect());
        }
        if let Some(cwd) = &self.cwd {
            insert_text(&mut map, "cwd", cwd);
        }
        if let Some(stdin) = &self.stdin {
            insert_text(&mut map, "stdin", stdin);
        }
        for (key, value) in [("cores", self.cores), ("gpus", self.gpus), ("retries", self.retries)] {
            map.extend(value.map(|value| (key.to_owned(), Value::from(value))));
        }
        if let Some(limit) = self.timeout {
            let value = match limit.subsec_micros() {
                0 => Value::from(limit.as_secs()),
                _ => Value::from(limit.as_secs_f64()),
            };
            map.insert("timeout".to_owned(), value);
        }
        map
    }
}

fn text_of(bytes: &[u8]) -> Option<Value> {
    std::str::from_utf8(bytes).ok().map(Value::from)
}

fn insert_text(map: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    match text_of(bytes) {
        Some(text) => map.insert(key.to_owned(), text),
        None => map.insert(format!("{key}_base64"), Value::String(base64_encode(bytes))),
    };
}
