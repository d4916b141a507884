//! The text format of Prometheus (0.0.4): families with help and type, samples with labels.

use super::Histogram;

/// Kind of content, for the answer's header.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Puts a sample: labels and a whole number.
type Put<'a> = dyn FnMut(&[(&str, &str)], i128) + 'a;

/// A page of metrics that is being written.
#[derive(Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, samples: impl FnOnce(&mut Put<'_>)) {
        self.family(name, help, "gauge", samples);
    }

    /// Something that only grows; its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, samples: impl FnOnce(&mut Put<'_>)) {
        self.family(name, help, "counter", samples);
    }

    /// Durations in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let (rows, count, sum) = histogram.read();
        for (bound, below) in rows {
            self.text.push_str(&format!("{name}_bucket{{le=\"{bound}\"}} {below}\n"));
        }
        self.text.push_str(&format!(
            "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n"
        ));
    }

    /// The page.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn family(&mut self, name: &str, help: &str, kind: &str, samples: impl FnOnce(&mut Put<'_>)) {
        self.head(name, help, kind);
        let text = &mut self.text;
        samples(&mut |labels, value| {
            text.push_str(name);
            for (at, (key, value)) in labels.iter().enumerate() {
                let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                text.push_str(&format!("{}{key}=\"{escaped}\"", if at == 0 { '{' } else { ',' }));
            }
            text.push_str(if labels.is_empty() { "" } else { "}" });
            text.push_str(&format!(" {value}\n"));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_a_family_names_its_kind() {
        let mut out = Exposition::default();
        out.gauge("tillsync_x", "What it is.", |put| {
            put(&[], 3);
            put(&[("store", "a\"b\\c\nd"), ("till", "t")], -1);
        });
        let wanted = "# HELP tillsync_x What it is.\n# TYPE tillsync_x gauge\ntillsync_x 3\n\
            tillsync_x{store=\"a\\\"b\\\\c\\nd\",till=\"t\"} -1\n";
        assert_eq!(out.finish(), wanted);
    }
}
