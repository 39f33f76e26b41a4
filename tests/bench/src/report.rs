//! What a run found: rows of figures per case, as a table for people and as JSON for programs. It states, it never judges.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{machine::Machine, options::Options, stats::Spread};

/// The kinds of figures.
pub(crate) mod metric {
    use super::Metric;

    const fn of(key: &'static str, label: &'static str, decimals: usize) -> Metric {
        Metric { key, label, decimals }
    }

    pub(crate) const RATE: Metric = of("requests_per_second", "requests/s", 0);
    pub(crate) const P50: Metric = of("p50_us", "p50 µs", 0);
    pub(crate) const P99: Metric = of("p99_us", "p99 µs", 0);
    pub(crate) const CPU: Metric = of("cpu_us_per_request", "CPU µs/request", 1);
    pub(crate) const BUSY: Metric = of("core_busy_percent", "core busy %", 0);
    pub(crate) const RESIDENT: Metric = of("resident_mib", "RSS MiB", 1);
    /// The paced generator's own lateness: latencies below it are not the proxy's.
    pub(crate) const LATE: Metric = of("generator_late_p99_us", "generator late p99 µs", 0);
    pub(crate) const IDLE_CPU: Metric = of("idle_cpu_ms_per_second", "CPU ms/s", 2);
    pub(crate) const ROUND_TRIPS: Metric = of("round_trips_per_second", "trips/s", 0);
    pub(crate) const PER_RUN: Metric = of("ns_per_run", "ns/run", 0);
    pub(crate) const CONNECTIONS: Metric = of("connections_per_second", "connections/s", 0);
    pub(crate) const STREAM: Metric = of("stream_mib_per_second", "MiB/s", 0);
    pub(crate) const STOPPED: Metric = of("stopped_after_ms", "stopped after ms", 1);
    pub(crate) const STOPPED_LAST: Metric = of("stopped_after_max_ms", "the last", 1);
    pub(crate) const STOPS: Metric = of("stopped", "stopped", 0);
    pub(crate) const IN_FORCE: Metric = of("change_to_in_force_ms", "change to in force ms", 1);
}

/// One kind of figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Metric {
    key: &'static str,
    #[serde(skip)]
    label: &'static str,
    #[serde(skip)]
    decimals: usize,
}

/// The figures of one round.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    values: Vec<(Metric, f64)>,
    /// Requests that were not answered as they should.
    pub(crate) failed: u64,
}

impl Figures {
    /// Adds one figure.
    pub(crate) fn put(&mut self, metric: Metric, value: f64) {
        self.values.push((metric, value));
    }
}

/// One figure over all rounds.
#[derive(Debug, Serialize)]
struct Series {
    #[serde(flatten)]
    metric: Metric,
    #[serde(flatten)]
    spread: Spread,
    rounds: Vec<f64>,
}

/// One subject of a case.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    subject: String,
    series: Vec<Series>,
    /// Over all rounds.
    failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Row {
    /// Gathers rounds; figures stand in the order of the first round.
    pub(crate) fn of(subject: &impl ToString, rounds: &[Figures]) -> Self {
        let metrics = rounds.first().map(|round| round.values.iter().map(|(metric, _)| *metric).collect::<Vec<_>>());
        let series = metrics.unwrap_or_default().into_iter().filter_map(|metric| {
            let values = rounds.iter().flat_map(|round| &round.values);
            let rounds: Vec<f64> = values.filter(|(of, _)| *of == metric).map(|(_, value)| *value).collect();
            Some(Series { metric, spread: Spread::of(rounds.iter().copied())?, rounds })
        });
        let failed = rounds.iter().map(|round| round.failed).sum();
        Self { subject: subject.to_string(), series: series.collect(), failed, note: None }
    }

    /// With a remark behind the row.
    pub(crate) fn noted(mut self, note: String) -> Self {
        self.note = Some(note);
        self
    }

    fn median(&self, metric: Metric) -> Option<f64> {
        self.series.iter().find(|series| series.metric == metric).map(|series| series.spread.median)
    }
}

/// The rows of one case.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) case: String,
    /// What was done, in one sentence.
    pub(crate) about: String,
    pub(crate) rows: Vec<Row>,
    /// The metric of which each row is divided by the baselines' rows.
    #[serde(skip)]
    pub(crate) ratio: Option<(Metric, Vec<String>)>,
}

impl Table {
    fn render(&self, text: &mut String) {
        let mut metrics: Vec<Metric> = Vec::new();
        for series in self.rows.iter().flat_map(|row| &row.series) {
            if !metrics.contains(&series.metric) {
                metrics.push(series.metric);
            }
        }
        let baselines = self.baselines();
        let mut lines = vec![vec![String::new()]];
        lines[0].extend(metrics.iter().map(|metric| metric.label.to_owned()));
        lines[0].extend(baselines.iter().map(|(label, _)| label.clone()));
        lines[0].push("failed".to_owned());
        for row in &self.rows {
            let mut line = vec![row.subject.clone()];
            line.extend(metrics.iter().map(|metric| cell(row, *metric)));
            let ratio = |value: f64| {
                self.ratio.as_ref().and_then(|(metric, _)| row.median(*metric)).map(|median| median / value)
            };
            line.extend(
                baselines.iter().map(|(_, value)| ratio(*value).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))),
            );
            line.push(row.failed.to_string());
            lines.push(line);
        }
        let _ = writeln!(text, "\n{}: {}", self.case, self.about);
        align(&lines, text);
        for row in &self.rows {
            if let Some(note) = &row.note {
                let _ = writeln!(text, "  {}: {note}", row.subject);
            }
        }
    }

    fn baselines(&self) -> Vec<(String, f64)> {
        let Some((metric, names)) = &self.ratio else { return Vec::new() };
        let unit = metric.label.split(' ').next().unwrap_or_default();
        let row = |name: &String| self.rows.iter().find(|row| row.subject == *name);
        let value = |name| row(name).and_then(|row| row.median(*metric)).filter(|value| *value > 0.0);
        names.iter().filter_map(|name| Some((format!("{unit} ÷ {name}"), value(name)?))).collect()
    }
}

fn cell(row: &Row, metric: Metric) -> String {
    let Some(series) = row.series.iter().find(|series| series.metric == metric) else { return "-".to_owned() };
    let Spread { median, low, high } = series.spread;
    let decimals = metric.decimals;
    if series.rounds.len() < 2 {
        return format!("{median:.decimals$}");
    }
    format!("{median:.decimals$} ({low:.decimals$}–{high:.decimals$})")
}

/// Writes lines of cells, the first column to the left, the others to the right.
fn align(lines: &[Vec<String>], text: &mut String) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let _ = writeln!(text, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Everything of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) options: Options,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) tables: Vec<Table>,
}

impl Report {
    /// The report for people.
    pub(crate) fn render(&self) -> String {
        let Machine { processor, cores, kernel, load_before, versions } = &self.machine;
        let mut text = String::new();
        let _ = writeln!(text, "{processor}, {cores} cores, Linux {kernel}, load before the run {load_before}");
        for version in versions {
            let _ = writeln!(text, "  {version}");
        }
        let (rounds, seconds) = (self.rounds, self.seconds);
        let _ = writeln!(
            text,
            "{rounds} interleaved rounds of {seconds} s, median (lowest–highest), order seed {}; compare within this run only",
            self.seed
        );
        for table in &self.tables {
            table.render(&mut text);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(cpu: f64, failed: u64) -> Figures {
        let mut figures = Figures { failed, ..Figures::default() };
        figures.put(metric::RATE, 1000.0);
        figures.put(metric::CPU, cpu);
        figures
    }

    #[test]
    fn a_table_shows_medians_ranges_ratios_and_failures() {
        let rows = vec![
            Row::of(&"direct", &[Figures::default()]),
            Row::of(&"weir", &[round(20.0, 0), round(22.0, 1), round(19.0, 1)]).noted("a remark".to_owned()),
            Row::of(&"envoy", &[round(50.0, 0)]),
        ];
        let ratio = Some((metric::CPU, vec!["envoy".to_owned(), "nginx".to_owned()]));
        let table = Table { case: "c".to_owned(), about: "what".to_owned(), rows, ratio };
        let mut text = String::new();
        table.render(&mut text);
        let expected = "
c: what
                requests/s    CPU µs/request  CPU ÷ envoy  failed
  direct                 -                 -            -       0
  weir    1000 (1000–1000)  20.0 (19.0–22.0)         0.40       2
  envoy               1000              50.0         1.00       0
  weir: a remark
";
        assert_eq!(text, expected);
    }
}
