//! Measuring in pairs: what is measured and its reference take turns in every sample, so that a machine that changes under
//! them changes both.

use std::time::Duration;

use criterion::{Criterion, SamplingMode};

use crate::processors::Processors;
use crate::report::{Measured, Row, median};
use crate::results::Results;
use crate::yardstick;

/// What one half of a pair took.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Nanoseconds of an operation: the mean, and what is usual.
    mean: f64,
    pub(crate) usual: f64,
}

/// Operations that are timed together, and how often.
#[derive(Clone, Copy)]
pub(crate) struct Groups {
    pub(crate) number: u64,
    pub(crate) size: u64,
}

impl Groups {
    pub(crate) const ONE: Self = Self { number: 1, size: 1 };

    /// Runs them. What is usual is the median group: now and then other work on the machine takes a processor away, for
    /// longer than many operations last.
    pub(crate) fn time(self, mut run: impl FnMut(u64) -> Duration) -> Sample {
        let each: Vec<f64> = (0..self.number)
            .map(|_| run(self.size).as_nanos() as f64 / self.size as f64)
            .collect();
        Sample {
            mean: each.iter().sum::<f64>() / self.number as f64,
            usual: median(&each),
        }
    }
}

impl Sample {
    fn between(first: Self, second: Self) -> Self {
        Self {
            mean: f64::midpoint(first.mean, second.mean),
            usual: f64::midpoint(first.usual, second.usual),
        }
    }
}

pub(crate) struct Bench {
    criterion: Criterion,
    rows: Vec<Measured>,
    pub(crate) processors: Processors,
}

impl Bench {
    pub(crate) fn new(criterion: Criterion, processors: Processors) -> Self {
        Self {
            criterion,
            rows: Vec::new(),
            processors,
        }
    }

    /// Measures a row and its reference.
    pub(crate) fn pair(
        &mut self,
        row: Row,
        mut reference: impl FnMut(Groups) -> Sample,
        mut measured: impl FnMut(Groups) -> Sample,
    ) {
        let least = row.least;
        self.sampled(row, |count| {
            let groups = Groups {
                number: (count / (2 * least.size)).max(least.number),
                ..least
            };
            // Theirs, mine, mine, theirs: what drifts evenly falls out.
            let theirs = reference(groups);
            let mine = Sample::between(measured(groups), measured(groups));
            (mine, Some(Sample::between(theirs, reference(groups))))
        });
    }

    /// Measures a row that has no reference. Whatever threads it starts run where there is room.
    pub(crate) fn alone(&mut self, row: Row, mut measured: impl FnMut() -> Duration) {
        let processors = self.processors;
        self.sampled(row, |number| {
            processors.release();
            let groups = Groups {
                number,
                ..Groups::ONE
            };
            (groups.time(|_| measured()), None)
        });
    }

    /// Whether criterion was told to measure the last row.
    pub(crate) fn chosen(&self) -> bool {
        self.rows.last().is_some_and(|row| row.line().is_some())
    }

    /// A row that was measured once, by other means.
    pub(crate) fn tell(&mut self, row: Row, operation: Duration) {
        let line = yardstick::line(self.processors);
        let mut measured = Measured::new(row);
        measured.sample(1, Groups::ONE.time(|_| operation), None, [line, line]);
        self.rows.push(measured);
    }

    /// Has criterion take the samples: it warms up, chooses the number of operations, and shows the mean time of what is
    /// measured.
    fn sampled(&mut self, row: Row, mut sample: impl FnMut(u64) -> (Sample, Option<Sample>)) {
        let processors = self.processors;
        let mut measured = Measured::new(row);
        let mut group = self.criterion.benchmark_group("data_path");
        group.sampling_mode(SamplingMode::Flat);
        group.bench_function(measured.what(), |bencher| {
            bencher.iter_custom(|count| {
                let before = yardstick::line(processors);
                let (mine, reference) = sample(count);
                let after = yardstick::line(processors);
                measured.sample(count, mine, reference, [before, after]);
                Duration::from_nanos((mine.mean * count as f64) as u64)
            });
        });
        group.finish();
        self.rows.push(measured);
    }

    /// What the rows came to; those that criterion was told to leave out are not among them.
    pub(crate) fn finish(self) -> Results {
        Results::new(self.rows.iter().filter_map(Measured::line).collect())
    }
}
