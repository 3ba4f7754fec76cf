//! What the listings and files of a run say, as JSON.

use super::World;
use serde_json::Value;

/// The objects of a listing, one per line.
#[track_caller]
pub fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// `myriarch tasks DIR --json`.
#[track_caller]
pub fn tasks(world: &World, dir: &str) -> Vec<Value> {
    rows(world.alone(&["tasks", dir, "--json"]).with(0).text())
}

/// `myriarch output DIR --json`.
#[track_caller]
pub fn outputs(world: &World, dir: &str) -> Vec<Value> {
    rows(world.alone(&["output", dir, "--json"]).with(0).text())
}

/// `summary.json`.
#[track_caller]
pub fn summary(world: &World, dir: &str) -> Value {
    serde_json::from_str(&world.read(format!("{dir}/summary.json"))).unwrap()
}

/// The bytes of a stream of an object of [`outputs`].
pub fn stream(row: &Value, name: &str) -> Vec<u8> {
    match &row[name] {
        Value::String(text) => text.clone().into_bytes(),
        _ => base64(row[format!("{name}_base64")].as_str().unwrap_or_else(|| panic!("no {name} in {row}"))),
    }
}

/// RFC 4648, section 4.
pub fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let digit = DIGITS.iter().position(|digit| *digit == byte).expect("a digit of base64");
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
