//! The two text formats that a scrape may ask for, which differ little: the names of counters, and the last line.
//!
//! Written here and not by a crate because those that are kept know one of the formats each, and make an object of every
//! sample first; a host with 80 components has some 4,000 samples and 3 ms.

use std::fmt::{Display, Write as _};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4.
    Classic,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// The content type of a text in it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The one that a client likes better, by its `Accept` header (RFC 9110, section 12.5.1).
    #[must_use]
    pub fn accepted(header: Option<&str>) -> Self {
        let mut open = 0.0;
        let mut classic = 0.0;
        for range in header.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let (mut weight, mut version) = (1.0, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name {
                    "q" => weight = value.parse().unwrap_or(0.0),
                    "version" => version = Some(value),
                    _ => {}
                }
            }
            match (media, version) {
                ("application/openmetrics-text", None | Some("1.0.0")) => {
                    open = f64::max(open, weight);
                }
                ("text/plain", _) => classic = f64::max(classic, weight),
                _ => {}
            }
        }
        match open > 0.0 && open >= classic {
            true => Self::OpenMetrics,
            false => Self::Classic,
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A count that only grows; its name is given without `_total`.
    Counter,
    /// A sum and a count of observations.
    Summary,
}

/// A text under way.
#[derive(Debug)]
pub(super) struct Exposition {
    format: Format,
    text: String,
}

impl Exposition {
    pub(super) fn new(format: Format, room: usize) -> Self {
        Self {
            format,
            text: String::with_capacity(room),
        }
    }

    /// Begins a metric. Without a sample it is left out.
    pub(super) fn metric<'a>(&'a mut self, name: &'a str, kind: Kind, help: &'a str) -> Metric<'a> {
        Metric {
            exposition: self,
            name,
            kind,
            help,
            begun: false,
        }
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// One metric; its samples follow each other.
#[derive(Debug)]
pub(super) struct Metric<'a> {
    exposition: &'a mut Exposition,
    name: &'a str,
    kind: Kind,
    help: &'a str,
    begun: bool,
}

impl Metric<'_> {
    /// A sample with labels, which were made by [`labels`].
    pub(super) fn sample(&mut self, labels: &[&str], value: impl Display) {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Summary => "",
        };
        self.suffixed(suffix, labels, value);
    }

    /// A sample of a summary.
    pub(super) fn summary(&mut self, sum: impl Display, count: impl Display) {
        self.suffixed("_sum", &[], sum);
        self.suffixed("_count", &[], count);
    }

    fn suffixed(&mut self, suffix: &str, labels: &[&str], value: impl Display) {
        self.begin();
        let text = &mut self.exposition.text;
        text.push_str(self.name);
        text.push_str(suffix);
        let mut open = false;
        for label in labels.iter().filter(|label| !label.is_empty()) {
            text.push(if open { ',' } else { '{' });
            text.push_str(label);
            open = true;
        }
        if open {
            text.push('}');
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, " {value}");
    }

    fn begin(&mut self) {
        if self.begun {
            return;
        }
        self.begun = true;
        let (name, help) = (self.name, self.help);
        let (kind, total) = match self.kind {
            Kind::Gauge => ("gauge", ""),
            Kind::Summary => ("summary", ""),
            Kind::Counter if self.exposition.format == Format::Classic => ("counter", "_total"),
            Kind::Counter => ("counter", ""),
        };
        let text = &mut self.exposition.text;
        let _ = writeln!(text, "# HELP {name}{total} {help}");
        let _ = writeln!(text, "# TYPE {name}{total} {kind}");
    }
}

/// Labels as they are written. Values may be anybody's: a host's files gave them.
pub(super) fn labels(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_open_metrics_gets_it_and_all_others_the_classic_text() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
        for other in [
            None,
            Some(""),
            Some("*/*"),
            Some("text/plain"),
            Some("text/plain;q=0.9, application/openmetrics-text;q=0.5"),
            Some("application/openmetrics-text;version=2.0.0"),
            Some("application/openmetrics-text;q=0"),
            Some("application/openmetrics-text;q=lots"),
        ] {
            assert_eq!(Format::accepted(other), Format::Classic, "{other:?}");
        }
    }

    #[test]
    fn a_counter_is_named_as_each_format_has_it() {
        let text = |format| {
            let mut exposition = Exposition::new(format, 0);
            exposition
                .metric("looks", Kind::Counter, "Looks")
                .sample(&[], 7);
            exposition.metric("none", Kind::Gauge, "Nothing");
            exposition.finish()
        };
        let classic = "# HELP looks_total Looks\n# TYPE looks_total counter\nlooks_total 7\n";
        assert_eq!(text(Format::Classic), classic);
        let open = "# HELP looks Looks\n# TYPE looks counter\nlooks_total 7\n# EOF\n";
        assert_eq!(text(Format::OpenMetrics), open);
    }

    #[test]
    fn what_a_host_named_cannot_break_a_line() {
        let found = labels(&[("slot", "a\"b\\c\nd"), ("kind", "nic")]);
        assert_eq!(found, r#"slot="a\"b\\c\nd",kind="nic""#);
    }
}
