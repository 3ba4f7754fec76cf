//! A model as the text of a TOML file, each number beside its source.

use crate::simulate::{Model, ModelError};
use serde_json::Value;

/// A model that is being written.
#[derive(Debug, Default)]
pub(super) struct Sheet(String);

impl Sheet {
    /// A line that is no figure.
    pub(super) fn comment(&mut self, text: &str) {
        self.0.push_str(&format!("# {text}\n"));
    }

    /// What follows stands in this section.
    pub(super) fn section(&mut self, name: &str) {
        self.0.push_str(&format!("\n[{name}]\n"));
    }

    /// A time, in whole nanoseconds.
    pub(super) fn ns(&mut self, key: &str, value: f64, source: &str) {
        self.put(key, value.max(0.0).round(), source);
    }

    /// A number to three significant digits.
    pub(super) fn real(&mut self, key: &str, value: f64, source: &str) {
        let scale = 10f64.powi(2 - value.abs().max(1e-9).log10().floor() as i32);
        self.put(key, (value * scale).round() / scale, source);
    }

    fn put(&mut self, key: &str, value: f64, source: &str) {
        // A text in JSON is one in TOML too.
        let source = Value::from(source);
        self.0.push_str(&format!("{key} = {{ value = {value}, source = {source} }}\n"));
    }

    /// The text, which was read as a model.
    ///
    /// # Errors
    /// A figure is missing, or is none.
    pub(super) fn finish(self) -> Result<String, ModelError> {
        Model::parse("what was measured", &self.0)?;
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_cut_to_what_they_say() {
        let mut sheet = Sheet::default();
        sheet.section("a.b");
        sheet.ns("x_ns", 26_999.7, "measured \"so\"");
        sheet.real("y", 0.070_149, "s");
        sheet.real("z", 123_456.0, "s");
        sheet.real("zero", 0.0, "s");
        let expected = "\n[a.b]\nx_ns = { value = 27000, source = \"measured \\\"so\\\"\" }\n\
                        y = { value = 0.0701, source = \"s\" }\nz = { value = 123000, source = \"s\" }\n\
                        zero = { value = 0, source = \"s\" }\n";
        assert_eq!(sheet.0, expected);
    }

    #[test]
    fn what_is_not_whole_is_not_given_out() {
        assert!(Sheet::default().finish().is_err());
    }
}
