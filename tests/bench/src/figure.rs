//! What is a figure worth?
//!
//! The median of its samples, one a round; their least and greatest say how far the machine let it
//! wander.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The name for machines, stable: `frames_per_second.64.vnet`.
    pub name: String,
    /// The name for people.
    #[serde(skip)]
    pub title: String,
    /// The median.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// The least and the greatest sample.
    pub spread: [f64; 2],
    /// How many samples there are.
    pub samples: usize,
    /// What it is about: path, size, streams and the like.
    #[serde(flatten)]
    pub about: BTreeMap<&'static str, Value>,
    /// What it is to be compared with.
    #[serde(flatten)]
    pub goal: Option<Goal>,
    /// What the documents that this system goes back to have for it, in the same unit: on other machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<f64>,
}

impl Figure {
    /// The figure of these samples, or nothing where there are none.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        unit: &'static str,
        samples: &[f64],
    ) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let spread = [*sorted.first()?, *sorted.last()?];
        Some(Self {
            name: name.into(),
            title: title.into(),
            value: middle(&sorted)?,
            unit,
            spread,
            samples: sorted.len(),
            about: BTreeMap::new(),
            goal: None,
            documents: None,
        })
    }

    /// With what the documents have for it.
    #[must_use]
    pub const fn with_documents(mut self, value: f64) -> Self {
        self.documents = Some(value);
        self
    }

    /// With one more thing that it is about.
    #[must_use]
    pub fn about(mut self, what: &'static str, value: impl Into<Value>) -> Self {
        self.about.insert(what, value.into());
        self
    }

    /// With a goal: the value is judged by it, the spread is not.
    #[must_use]
    pub fn with_goal(mut self, bound: Bound) -> Self {
        self.goal = Some(Goal {
            goal: bound,
            met: bound.is_met_by(self.value),
        });
        self
    }
}

/// A goal, and whether it is met.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// What is aimed at.
    pub goal: Bound,
    /// Whether the value is there.
    pub met: bool,
}

/// What a value should be. Its text is `>= 3` or `<= 30`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Bound {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {bound}"),
            Self::AtMost(bound) => write!(f, "<= {bound}"),
        }
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The mean of the middle half, or nothing where there are no samples: as robust as the median,
/// and finer than the steps in which a clock counts.
#[must_use]
pub fn middle_mean(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let quarter = sorted.len() / 4;
    let half = sorted.get(quarter..sorted.len() - quarter)?;
    (!half.is_empty()).then(|| half.iter().sum::<f64>() / half.len() as f64)
}

/// The sample that this part of all is below, or nothing where there are none.
#[must_use]
pub fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = (sorted.len() as f64 * part) as usize;
    sorted
        .get(place.min(sorted.len().saturating_sub(1)))
        .copied()
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(half.checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_and_its_spread_the_extremes() {
        let figure = Figure::new("f", "F", "s", &[3.0, 1.0, 10.0]).unwrap();
        assert_eq!(
            (figure.value, figure.spread, figure.samples),
            (3.0, [1.0, 10.0], 3)
        );
        let even = Figure::new("f", "F", "s", &[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(even.value, 2.5);
        assert_eq!(Figure::new("f", "F", "s", &[]), None);
    }

    #[test]
    fn the_middle_mean_knows_nothing_of_outliers() {
        let samples = [10.0, 1000.0, 20.0, 10.0, 20.0, 0.0, 10.0, 20.0];
        assert_eq!(middle_mean(&samples), Some(15.0));
        assert_eq!(middle_mean(&[7.0]), Some(7.0));
        assert_eq!(middle_mean(&[]), None);
    }

    #[test]
    fn a_percentile_is_a_sample() {
        let samples: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&samples, 0.99), Some(199.0));
        assert_eq!(percentile(&samples, 1.0), Some(200.0));
        assert_eq!(percentile(&[7.0], 0.5), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_goal_is_met_at_its_bound() {
        let figure = Figure::new("f", "F", "x", &[3.0]).unwrap();
        let met = |bound| figure.clone().with_goal(bound).goal.map(|goal| goal.met);
        assert_eq!(met(Bound::AtLeast(3.0)), Some(true));
        assert_eq!(met(Bound::AtLeast(3.1)), Some(false));
        assert_eq!(met(Bound::AtMost(2.9)), Some(false));
    }

    #[test]
    fn a_machine_reads_name_value_unit_spread_and_goal() {
        let figure = Figure::new("f", "F", "x", &[3.0]).unwrap();
        let json = serde_json::to_string(&figure.clone().with_goal(Bound::AtLeast(3.0))).unwrap();
        assert_eq!(
            json,
            r#"{"name":"f","value":3.0,"unit":"x","spread":[3.0,3.0],"samples":1,"goal":">= 3","met":true}"#
        );
        let json = serde_json::to_string(&figure.about("path", "ovs").about("size", 64)).unwrap();
        assert!(
            json.contains(r#""samples":1,"path":"ovs","size":64}"#),
            "{json}"
        );
    }
}
