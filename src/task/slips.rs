//! Likely slips in what the user gave, told and not refused: braces that look like a placeholder and are none, a
//! command that is the same for all tasks, a grid whose only value looks like a range.

use super::grid::{Axis, meant_range};
use super::json::suggestion;
use super::placeholder::{Names, looks_like_placeholders};
use super::source::{Source, TemplateOptions};
use super::template::{Kind, Template};

/// Names that a warning lists.
const MAX_LISTED: usize = 20;

/// A warning each, for a source with so many tasks.
pub(super) fn likely_slips(
    source: &Source,
    options: &TemplateOptions,
    template: &Template,
    whole: &[u8],
    len: u64,
) -> Vec<String> {
    let columns = template.kind.columns();
    let names = Names { whole, columns: &columns };
    let mut found: Vec<String> = Vec::new();
    for text in texts(source, options) {
        found.extend(looks_like_placeholders(text, names));
    }
    let mut slips = Vec::new();
    for (at, name) in found.iter().enumerate() {
        if !found[..at].contains(name) {
            slips.push(unknown(name, &template.kind, names));
        }
    }
    // A task may also go by its variables.
    let by_variable = |text: &Vec<u8>| memchr::memmem::find(text, b"MYRIARCH_").is_some();
    let has_command = !source.command().is_empty();
    if len > 1 && has_command && !template.has_placeholders() && !texts(source, options).any(by_variable) {
        let such = columns.first().map_or_else(|| shown(whole), |column| format!("{{{column}}}"));
        slips.push(format!("every task runs the same command: no placeholder, such as {such}, stands in it"));
    }
    if let Kind::Grid { axes, .. } = &template.kind {
        slips.extend(axes.iter().filter_map(|(name, axis)| dashed_range(name, axis)));
    }
    slips
}

/// All texts with placeholders.
fn texts<'a>(source: &'a Source, options: &'a TemplateOptions) -> impl Iterator<Item = &'a Vec<u8>> {
    let env = options.env.iter().map(|(_, value)| value);
    source.command().iter().chain(env).chain(&options.cwd).chain(&options.stdin)
}

fn unknown(name: &str, kind: &Kind, names: Names<'_>) -> String {
    let what = match kind {
        Kind::Grid { .. } => "--grid name",
        Kind::Table { .. } => "column",
        _ => return format!("{{{name}}} stays as it is: only {} and its forms are replaced", shown(names.whole)),
    };
    let hint = suggestion(name, names.columns.iter().map(String::as_str));
    let listed = &names.columns[..names.columns.len().min(MAX_LISTED)];
    let more = if listed.len() < names.columns.len() { ", …" } else { "" };
    let (are, plural) = if names.columns.len() == 1 { ("is", "") } else { ("are", "s") };
    format!(
        "{{{name}}} stays as it is: there is no such {what}{hint}; the {what}{plural} {are} {}{more}",
        listed.join(", ")
    )
}

fn dashed_range(name: &str, axis: &Axis) -> Option<String> {
    let (value, range) = meant_range(axis)?;
    Some(format!("--grid {name}={value} is one value, the text \"{value}\": did you mean {name}={range}?"))
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}
