//! The axes of `--grid`: lists of values, and ranges of numbers that stay symbolic. Decimal steps are counted in whole
//! units of the last decimal place, so that `0:1:0.1` has eleven values and no rounding.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::Write;

/// The values of one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Axis {
    /// As listed.
    Values(Vec<Vec<u8>>),
    /// `(first + k · step) / 10^decimals` for k below `count`.
    Range { first: i64, step: i64, decimals: u32, count: u64 },
}

/// Decimal places that a range may have.
const MAX_DECIMALS: usize = 15;

/// What is wrong with a `--grid` value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GridError {
    /// No `=`.
    #[error("expected NAME=VALUES, such as a=1,2,3 or b=0:10:2")]
    NoName,
    /// The name cannot stand in braces.
    #[error("\"{0}\" is no name (letters, digits and _, not first a digit)")]
    BadName(String),
    /// The name was used before.
    #[error("the name \"{0}\" is used twice")]
    SameName(String),
    /// Nothing behind the `=`.
    #[error("\"{0}\" has no values")]
    NoValues(String),
    /// A part of a range is no number.
    #[error("\"{part}\" in \"{range}\" is no number (a range is start:stop or start:stop:step)")]
    NoNumber {
        /// The part.
        part: String,
        /// The whole range.
        range: String,
    },
    /// The step never reaches the stop.
    #[error("the range \"{0}\" runs backwards (from a higher to a lower number the step must be negative)")]
    Backwards(String),
    /// A step of zero.
    #[error("the range \"{0}\" has a step of 0")]
    NoStep(String),
    /// Too many.
    #[error("the grid has more tasks than can be counted")]
    TooMany,
}

/// Reads `NAME=VALUES`.
pub(super) fn parse_axis(text: &[u8]) -> Result<(String, Axis), GridError> {
    let equals = text.iter().position(|&byte| byte == b'=').ok_or(GridError::NoName)?;
    let name = String::from_utf8_lossy(&text[..equals]).into_owned();
    let mut letters = name.chars();
    let first_fits = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first_fits || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Err(GridError::BadName(name));
    }
    let values = &text[equals + 1..];
    if values.is_empty() {
        return Err(GridError::NoValues(name));
    }
    let axis = match parse_range(values)? {
        Some(range) => range,
        None => Axis::Values(values.split(|&byte| byte == b',').map(<[u8]>::to_vec).collect()),
    };
    Ok((name, axis))
}

/// A number as (units, decimals): `-1.50` is (-150, 2).
fn parse_number(text: &str) -> Option<(i64, usize)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let both = format!("{whole}{fraction}");
    if both.is_empty() || !both.bytes().all(|byte| byte.is_ascii_digit()) || fraction.len() > MAX_DECIMALS {
        return None;
    }
    let units: i64 = both.parse().ok()?;
    Some((if negative { -units } else { units }, fraction.len()))
}

/// A range where the text is one; an error where it begins like one.
fn parse_range(values: &[u8]) -> Result<Option<Axis>, GridError> {
    let Ok(text) = std::str::from_utf8(values) else { return Ok(None) };
    let parts: Vec<&str> = text.split(':').collect();
    // `host:port` and the like are plain values.
    if parts.len() < 2 || text.contains(',') || parse_number(parts[0]).is_none() {
        return Ok(None);
    }
    let bad = |part: &str| GridError::NoNumber { part: part.to_owned(), range: text.to_owned() };
    if parts.len() > 3 {
        return Err(bad(&parts[3..].join(":")));
    }
    let mut numbers = Vec::new();
    for part in &parts {
        numbers.push(parse_number(part).ok_or_else(|| bad(part))?);
    }
    let decimals = numbers.iter().map(|(_, decimals)| *decimals).max().unwrap_or(0);
    let mut scaled = numbers.iter().map(|&(units, own)| {
        10i64
            .checked_pow((decimals - own) as u32)
            .and_then(|factor| units.checked_mul(factor))
            .ok_or(GridError::TooMany)
    });
    let mut next = || scaled.next().transpose();
    let (first, stop) = (next()?.unwrap_or(0), next()?.unwrap_or(0));
    let step = match next()? {
        Some(step) => step,
        None => 10i64.checked_pow(decimals as u32).ok_or(GridError::TooMany)?,
    };
    if step == 0 {
        return Err(GridError::NoStep(text.to_owned()));
    }
    let distance = i128::from(stop) - i128::from(first);
    if distance != 0 && (distance < 0) != (step < 0) {
        return Err(GridError::Backwards(text.to_owned()));
    }
    let count = u64::try_from(distance / i128::from(step) + 1).map_err(|_| GridError::TooMany)?;
    Ok(Some(Axis::Range { first, step, decimals: decimals as u32, count }))
}

/// A lone value such as `1-3`, and the range that it was likely meant to be.
pub(super) fn meant_range(axis: &Axis) -> Option<(&str, String)> {
    let Axis::Values(values) = axis else { return None };
    let [value] = values.as_slice() else { return None };
    let value = std::str::from_utf8(value).ok()?;
    // A dash in front is a sign.
    let dash = value.get(1..)?.find('-')? + 1;
    let range = format!("{}:{}", &value[..dash], &value[dash + 1..]);
    matches!(parse_range(range.as_bytes()), Ok(Some(_))).then_some((value, range))
}

impl Axis {
    /// How many values.
    pub(super) fn len(&self) -> u64 {
        match self {
            Axis::Values(values) => values.len() as u64,
            Axis::Range { count, .. } => *count,
        }
    }

    /// The value at a place.
    pub(super) fn value(&self, at: u64) -> Cow<'_, [u8]> {
        match self {
            Axis::Values(values) => {
                let value = usize::try_from(at).ok().and_then(|at| values.get(at));
                Cow::Borrowed(value.map_or(&[], Vec::as_slice))
            }
            Axis::Range { .. } => {
                let mut text = Vec::new();
                self.put(at, &mut text);
                Cow::Owned(text)
            }
        }
    }

    /// Appends the value at a place.
    fn put(&self, at: u64, out: &mut Vec<u8>) {
        match self {
            Axis::Values(_) => out.extend_from_slice(&self.value(at)),
            Axis::Range { first, step, decimals, .. } => {
                put_decimal(i128::from(*first) + i128::from(*step) * i128::from(at), *decimals, out);
            }
        }
    }
}

fn put_decimal(units: i128, decimals: u32, out: &mut Vec<u8>) {
    let sign = if units < 0 { "-" } else { "" };
    // A value lies between the ends of its range, which are `i64`.
    let (units, one) = (units.unsigned_abs() as u64, 10u64.pow(decimals));
    let (whole, fraction) = (units / one, units % one);
    // A vector takes whatever is written.
    let _ = match decimals as usize {
        0 => write!(out, "{sign}{whole}"),
        width => write!(out, "{sign}{whole}.{fraction:0width$}"),
    };
}

/// Reads all axes; also gives the size of their product.
pub(super) fn parse_axes(texts: &[Vec<u8>]) -> Result<(Vec<(String, Axis)>, u64), GridError> {
    let mut axes: Vec<(String, Axis)> = Vec::new();
    for text in texts {
        let (name, axis) = parse_axis(text)?;
        if axes.iter().any(|(known, _)| *known == name) {
            return Err(GridError::SameName(name));
        }
        axes.push((name, axis));
    }
    let count = product(&axes).ok_or(GridError::TooMany)?;
    Ok((axes, count))
}

/// Size of the product; `None` when it cannot be counted.
pub(super) fn product(axes: &[(String, Axis)]) -> Option<u64> {
    let count = axes.iter().try_fold(1u64, |product, (_, axis)| product.checked_mul(axis.len()))?;
    (count <= super::source::MAX_TASKS).then_some(count)
}

/// The values at a position of the product; the last axis runs fastest.
pub(super) fn values_at(axes: &[(String, Axis)], position: u64) -> Vec<Cow<'_, [u8]>> {
    let mut rest = position;
    let mut values: Vec<Cow<'_, [u8]>> = axes
        .iter()
        .rev()
        .map(|(_, axis)| {
            let len = axis.len().max(1);
            let value = axis.value(rest % len);
            rest /= len;
            value
        })
        .collect();
    values.reverse();
    values
}

/// Appends the values at a position, with commas between: no value of an axis holds one, for commas part the values of a
/// list.
pub(super) fn put_row(axes: &[(String, Axis)], position: u64, out: &mut Vec<u8>) {
    let Some(((_, last), before)) = axes.split_last() else { return };
    let len = last.len().max(1);
    if !before.is_empty() {
        put_row(before, position / len, out);
        out.push(b',');
    }
    last.put(position % len, out);
}
