//! What comes to us from outside?

mod carrier;
mod control;
mod frame;
mod http;
mod identity;
mod text;

use crate::engine::{Limits, Target};

/// Every target, by name.
#[must_use]
pub fn all() -> Vec<(&'static str, Box<dyn Target>)> {
    vec![
        ("language", Box::new(text::Language)),
        ("plan", Box::new(text::Plan)),
        ("settings", Box::new(text::SettingsFile)),
        ("from_agent", Box::new(control::FromAgent)),
        ("from_proxy", Box::new(control::FromProxy)),
        ("stranger", Box::new(control::Stranger::new())),
        ("traces", Box::new(control::Traces::new())),
        ("underlay", Box::new(frame::Wire::new())),
        ("slow_path", Box::new(frame::SlowPath::new())),
        ("carrier", Box::new(carrier::Stream)),
        ("preface", Box::new(carrier::Preface)),
        ("token", Box::new(identity::TokenLine)),
        ("bundle", Box::new(identity::BundleFile)),
        ("http", Box::new(http::Api::new())),
        ("reader", Box::new(http::Api::of_a_reader())),
    ]
}

/// The target of this name.
#[must_use]
pub fn named(name: &str) -> Option<Box<dyn Target>> {
    let found = all().into_iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| target)
}

/// What most may cost: an answer of some size for nothing, and some words for each byte.
const ORDINARY: Limits = Limits {
    held_bytes: (300_000, 400),
    asked_bytes: (2_000_000, 4000),
};

fn words_of(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// That these are the same; else what is not.
fn same<T: PartialEq + std::fmt::Debug>(one: &T, other: &T, what: &str) -> Result<(), String> {
    match one == other {
        true => Ok(()),
        false => Err(format!("{what}:\n{one:?}\n{other:?}")),
    }
}
