//! How long do changes of the whole overlay take, and what do they cost the frames under way?
//!
//! Beside each figure stands the one of the documents, where they have one (master's thesis, chapter
//! on the implementation; other machines, of 2004: a yardstick, no comparison).

pub mod failover;
pub mod rules;
pub mod shapes;
pub mod star;
pub mod tunnels;

use std::time::Duration;

use crate::figure::Figure;
use crate::plan::Plan;
use crate::workshop::Workshop;

/// What a round of shapes takes, about.
pub const SHAPES_ROUND: Duration = Duration::from_secs(25);
/// What a round of all else takes, about.
pub const ROUND: Duration = Duration::from_secs(20);

/// Measures how long it takes until the overlay has another shape.
#[must_use]
pub fn measure_shapes(workshop: &Workshop, plan: &Plan) -> Vec<Figure> {
    let figures = star::measure(workshop, plan.rounds);
    figures.unwrap_or_else(|error| {
        workshop.complain(format_args!("star and links: {error:#}"));
        Vec::new()
    })
}

/// Measures everything else about it.
#[must_use]
pub fn measure(workshop: &Workshop, plan: &Plan) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut take = |what: &str, result: anyhow::Result<Vec<Figure>>| match result {
        Ok(more) => figures.extend(more),
        Err(error) => workshop.complain(format_args!("{what}: {error:#}")),
    };
    take("failover", failover::measure(workshop, plan.rounds));
    take("rules", rules::measure(workshop, plan.rounds));
    take("tunnels", tunnels::measure(workshop, plan));
    figures
}
