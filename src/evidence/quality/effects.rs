//! Least squares for measured divergences: the effects of format, size, importance matrix and series.
//!
//! In: logarithms of divergences with what they were measured on. Out: the effects, and the variances of what they leave.
//! Pure and total.

/// The logarithm of one divergence, and what it was measured on.
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) log: f64,
    /// The number of the format.
    pub(super) format: usize,
    /// The number of the series.
    pub(super) series: usize,
    /// The logarithm of the model's size.
    pub(super) size: f64,
    /// 1 with an importance matrix, 0 without.
    pub(super) matrix: f64,
    pub(super) weight: f64,
}

/// The fitted effects.
#[derive(Debug)]
pub(super) struct Effects {
    pub(super) formats: Vec<f64>,
    /// The deviations of series, drawn towards zero.
    pub(super) series: Vec<f64>,
    /// The mean logarithm of the sizes, from which the effect of size is counted.
    centre: f64,
    size: f64,
    matrix: f64,
    /// The variance of the error of one measurement.
    pub(super) within: f64,
    /// The variance of the deviations of series.
    pub(super) between: f64,
}

/// Passes over the effects, each fitted to what the others leave. The sum of squares is convex, and the last passes change
/// nothing that is printed.
const PASSES: usize = 400;

/// The least variances: no number of rows makes measurements exactly alike.
const LEAST_WITHIN: f64 = 0.01;
const LEAST_BETWEEN: f64 = 0.04;

impl Effects {
    /// Fits `observations` of so many formats and series.
    pub(super) fn fit(observations: Vec<Observation>, formats: usize, series: usize) -> Effects {
        let sizes = observations.iter().map(|o| (o.size, o.weight));
        let mut effects = Effects {
            formats: vec![0.0; formats],
            series: vec![0.0; series],
            centre: mean(sums(sizes)),
            size: 0.0,
            matrix: 0.0,
            within: 1.0,
            between: 1.0,
        };
        for _ in 0..PASSES {
            effects.pass(&observations);
        }
        effects
    }

    /// The effect of a size, given as its logarithm.
    pub(super) fn of_size(&self, size: f64) -> f64 {
        self.size * (size - self.centre)
    }

    fn pass(&mut self, observations: &[Observation]) {
        for format in 0..self.formats.len() {
            let own = observations.iter().filter(|o| o.format == format);
            let left = own.map(|o| (self.left(o) + self.formats[format], o.weight));
            self.formats[format] = mean(sums(left));
        }
        let shrink = self.within / self.between;
        let mut squares = 0.0;
        for series in 0..self.series.len() {
            let own = observations.iter().filter(|o| o.series == series);
            let left = own.map(|o| (self.left(o) + self.series[series], o.weight));
            let (sum, count) = sums(left);
            self.series[series] = sum / (count + shrink);
            // What is expected of the square: that of the estimate, and the variance that the rows leave.
            squares += self.series[series].powi(2) + self.within / (count + shrink);
        }
        self.between = (squares / self.series.len().max(1) as f64).max(LEAST_BETWEEN);
        self.size += self.slope(observations, |o| o.size - self.centre);
        self.matrix += self.slope(observations, |o| o.matrix);
        let squares = observations
            .iter()
            .map(|o| (self.left(o).powi(2), o.weight));
        let (errors, count) = sums(squares);
        // Each effect that is free takes the error of one observation.
        let free = (count - self.formats.len() as f64 - 2.0).max(1.0);
        self.within = (errors / free).max(LEAST_WITHIN);
    }

    /// What a slope over `x` takes off what the effects leave.
    fn slope(&self, observations: &[Observation], x: impl Fn(&Observation) -> f64) -> f64 {
        let products = observations
            .iter()
            .map(|o| (self.left(o) / x(o), o.weight * x(o).powi(2)));
        mean(sums(products.filter(|(_, weight)| *weight > 0.0)))
    }

    /// What the effects leave of an observation.
    fn left(&self, o: &Observation) -> f64 {
        o.log
            - self.of_size(o.size)
            - self.matrix * o.matrix
            - self.formats[o.format]
            - self.series[o.series]
    }
}

/// The sum of values times their weights, and of the weights.
pub(super) fn sums(values: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    values.fold((0.0, 0.0), |(sum, count), (value, weight)| {
        (sum + value * weight, count + weight)
    })
}

fn mean((sum, count): (f64, f64)) -> f64 {
    if count > 0.0 { sum / count } else { 0.0 }
}
