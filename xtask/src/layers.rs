//! Does every file of the agent import only what its layer may?
//!
//! Input: the paths (`crate::…`, `super::…`, other crates) in `vnet-agent/src`. Output: the ones
//! that break the rule. The layers, from the top; a file may use what is below it:
//!
//! ```text
//! lib.rs, bin            everything
//! agent.rs               everything but bin: makes the channels, joins the stages
//! api, store, and in the stages runtime.rs and via/                               I/O
//! dataplane, world, settings: doors to the outside; one never uses another        I/O
//! identity, language, and the stages overlay, sense/*, decide/*, act/*                      pure
//! model                                                                           pure
//! ```
//!
//! A stage never uses another stage. Pure files do no I/O; only `dataplane` uses aya, only `world`
//! uses netlink crates.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::source::{Token, tokens};

/// A layer, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Model,
    Pure,
    Door,
    Edge,
    Wiring,
    Top,
}

/// Where a file or an imported module stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    layer: Layer,
    /// The folder that is one thing to others: `model`, `act/reconcile`, `world`.
    unit: String,
}

/// Crates that do I/O, and modules of the standard library that do.
const IO: [&[&str]; 12] = [
    &["aya"],
    &["axum"],
    &["hyper"],
    &["hyper_util"],
    &["libc"],
    &["nix"],
    &["tokio"],
    &["std", "fs"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "os"],
    &["std", "io", "stdin"],
];

/// Crates with one owner: a prefix of the crate's name, and the folder that may use it.
const OWNED: [(&str, &str); 4] = [
    ("aya", "dataplane"),
    ("netlink_", "world"),
    ("rtnetlink", "world"),
    ("genetlink", "world"),
];

/// Checks every file below `vnet-agent/src`.
///
/// # Errors
/// If a file cannot be read, or any breaks the rule; with all of them.
pub fn check() -> Result<()> {
    let root = xtask::root().join("vnet-agent/src");
    let mut faults = Vec::new();
    let files = rust_files(&root)?;
    for file in &files {
        let source = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let inside = file.strip_prefix(&root)?;
        for (line, fault) in faults_of(inside, &source) {
            faults.push(format!(
                "vnet-agent/src/{}:{line}: {fault}",
                inside.display()
            ));
        }
    }
    if !faults.is_empty() {
        bail!(
            "the layers of vnet-agent (see xtask/src/layers.rs):\n{}",
            faults.join("\n")
        );
    }
    println!("{} files keep to their layers", files.len());
    Ok(())
}

/// Every Rust file below a folder, in the order of their names.
pub fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What is wrong in one file, given by its path below `src`: line and reason.
fn faults_of(file: &Path, source: &str) -> Vec<(usize, String)> {
    let module = module_of(file);
    let Some(here) = place_of(&module) else {
        let name = module.first().map_or("lib", String::as_str);
        return vec![(
            1,
            format!("`{name}` has no layer: give it one in xtask/src/layers.rs"),
        )];
    };
    let mut faults = BTreeSet::new();
    for (line, path) in paths(&tokens(source)) {
        let fault = match resolve(&module, &path) {
            Some(target) => own_fault(&here, &target),
            None => foreign_fault(&here, &path),
        };
        faults.extend(fault.map(|fault| (line, fault)));
    }
    faults.into_iter().collect()
}

/// The module that a file is, as a path below the crate.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if module
        .last()
        .is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str()))
    {
        module.pop();
    }
    module
}

/// Where a module (or an item in it) stands; nothing where no layer knows its folder.
fn place_of(module: &[String]) -> Option<Place> {
    let unit_of = |length| module.get(..length).map(|unit| unit.join("/"));
    let Some(folder) = module.first() else {
        return Some(Place {
            layer: Layer::Top,
            unit: String::new(),
        });
    };
    let is_io = module.iter().any(|part| part == "runtime" || part == "via");
    let stage = if is_io { Layer::Edge } else { Layer::Pure };
    let (layer, length) = match folder.as_str() {
        "bin" => (Layer::Top, 1),
        "agent" => (Layer::Wiring, 1),
        "api" | "store" => (Layer::Edge, 1),
        "dataplane" | "world" | "settings" => (Layer::Door, 1),
        "identity" | "language" | "overlay" => (stage, 1),
        // What lies directly in these is for all their stages.
        "sense" | "decide" | "act" => {
            let below = module
                .get(1)
                .is_some_and(|part| part.starts_with(char::is_lowercase));
            (stage, if below { 2 } else { 1 })
        }
        "model" => (Layer::Model, 1),
        _ => return None,
    };
    Some(Place {
        layer,
        unit: unit_of(length)?,
    })
}

/// The module below the crate that a path leads to; nothing for a path into another crate.
fn resolve(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let first = path.first()?;
    if first == "crate" {
        return Some(path.get(1..)?.to_vec());
    }
    if first != "super" && first != "self" {
        return None;
    }
    let ups = path.iter().filter(|part| *part == "super").count();
    let mut target = module.get(..module.len().saturating_sub(ups))?.to_vec();
    target.extend(
        path.iter()
            .filter(|part| *part != "super" && *part != "self")
            .cloned(),
    );
    Some(target)
}

/// What is wrong with using this module of our own, if anything.
fn own_fault(here: &Place, target: &[String]) -> Option<String> {
    let there = place_of(target)?;
    let name = target.join("::");
    let is_within = here.unit == there.unit || here.unit.starts_with(&format!("{}/", there.unit));
    let is_stage = |place: &Place| {
        let folder = place.unit.split('/').next().unwrap_or_default();
        ["overlay", "sense", "decide", "act"].contains(&folder)
    };
    if there.layer == Layer::Top && !target.is_empty() && here.layer < Layer::Top {
        Some(format!("nothing may use `{name}`"))
    } else if is_within || here.layer == Layer::Top {
        (there.layer > here.layer).then(|| format!("a pure file uses `{name}`, which does I/O"))
    } else if is_stage(here) && is_stage(&there) {
        Some(format!(
            "a stage uses another stage, `{name}`; let agent.rs join them"
        ))
    } else if there.layer >= here.layer || (here.layer == Layer::Pure && there.layer > Layer::Model)
    {
        Some(format!("uses `{name}`, which is not below it"))
    } else {
        None
    }
}

/// What is wrong with using this path into another crate, if anything.
fn foreign_fault(here: &Place, path: &[String]) -> Option<String> {
    let name = path.first()?;
    for (prefix, owner) in OWNED {
        let is_it = name == prefix || (prefix.ends_with('_') && name.starts_with(prefix));
        if is_it && path.len() > 1 && here.unit != owner {
            return Some(format!("only {owner} uses `{name}`"));
        }
    }
    let does_io = IO
        .iter()
        .any(|io| path.len() > 1 && path.iter().zip(*io).all(|(a, b)| a == b));
    if here.layer <= Layer::Pure && does_io {
        return Some(format!("a pure file uses `{}`", path.join("::")));
    }
    if here.layer == Layer::Model && name == "vnet_ebpf" {
        return Some("model uses nothing of ours but vnet_common".to_owned());
    }
    None
}

/// Every path in the file with its line; groups in `use` are multiplied out.
fn paths(tokens: &[Token]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = tokens;
    while let Some(token) = rest.first() {
        let is_path = token.is_name() && rest.get(1).is_some_and(|next| next.text == "::");
        rest = if is_path {
            take_path(rest, &[], &mut found)
        } else {
            &rest[1..]
        };
    }
    found
}

/// Takes the path at the front, and what a group at its end multiplies it to; returns the rest.
fn take_path<'a>(
    tokens: &'a [Token],
    prefix: &[String],
    found: &mut Vec<(usize, Vec<String>)>,
) -> &'a [Token] {
    let line = tokens.first().map_or(0, |token| token.line);
    let mut path = prefix.to_vec();
    let mut rest = tokens;
    loop {
        match rest {
            [open, after @ ..] if open.text == "{" => {
                rest = after;
                while let Some(token) = rest.first().filter(|token| token.text != "}") {
                    let is_part = token.is_name() || token.text == "*" || token.text == "{";
                    rest = if is_part {
                        take_path(rest, &path, found)
                    } else {
                        &rest[1..]
                    };
                }
                return rest.get(1..).unwrap_or_default();
            }
            [part, colons, after @ ..] if colons.text == "::" => {
                path.push(part.text.clone());
                rest = after;
            }
            [last, after @ ..] => {
                if last.is_name() {
                    path.push(last.text.clone());
                }
                found.push((line, path));
                // A new name after `as` leads nowhere.
                return match after {
                    [word, _, after @ ..] if word.text == "as" => after,
                    after => after,
                };
            }
            [] => return rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(file: &str, source: &str) -> Vec<String> {
        faults_of(Path::new(file), source)
            .into_iter()
            .map(|(_, fault)| fault)
            .collect()
    }

    #[test]
    fn the_model_uses_itself_and_plain_crates() {
        let source = "use vnet_common::addr::Mac;\nuse super::port::Port;\nuse crate::model::Rule;\n\
                      use std::collections::{BTreeMap, BTreeSet};";
        assert!(faults("model/rule.rs", source).is_empty());
    }

    #[test]
    fn the_model_uses_nothing_above_it() {
        assert_eq!(
            faults("model/rule.rs", "use crate::world::tap::Tap;").len(),
            1
        );
        assert_eq!(
            faults("model/rule.rs", "use super::super::act::Step;").len(),
            1
        );
        assert_eq!(
            faults("model/rule.rs", "fn f() { tokio::spawn(x) }").len(),
            1
        );
        assert_eq!(faults("model/rule.rs", "use std::{fmt, fs};").len(), 1);
    }

    #[test]
    fn every_path_of_a_group_is_seen() {
        let source = "use crate::{\n  model::{Rule, Link as Other},\n  world::{tap, netlink::{self, Watcher}},\n};";
        let found = faults("act/reconcile/order.rs", source);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found.iter().all(|fault| fault.contains("world")),
            "{found:?}"
        );
    }

    #[test]
    fn a_stage_never_uses_another_one() {
        let fault = faults(
            "decide/vadapt/problem.rs",
            "use crate::sense::vttif::Matrix;",
        );
        assert!(fault[0].contains("another stage"), "{fault:?}");
        assert!(faults("act/reconcile/runtime.rs", "use crate::act::Mechanism;").is_empty());
        assert!(faults("act/reconcile/runtime.rs", "use super::order::Step;").is_empty());
        assert_eq!(
            faults("act/reconcile/runtime.rs", "use crate::act::migrate::Move;").len(),
            1
        );
    }

    #[test]
    fn a_pure_file_does_not_use_its_own_runtime() {
        assert_eq!(
            faults("act/reconcile/order.rs", "use super::runtime::Carrier;").len(),
            1
        );
        assert!(faults("act/reconcile/runtime.rs", "use crate::dataplane::Plane;").is_empty());
    }

    #[test]
    fn only_the_owner_uses_its_crates() {
        assert!(faults("dataplane/object.rs", "use aya::Ebpf;").is_empty());
        assert_eq!(faults("world/tap.rs", "use aya::Ebpf;").len(), 1);
        assert_eq!(
            faults("agent.rs", "use netlink_packet_route::link::LinkMessage;").len(),
            1
        );
    }

    #[test]
    fn doors_stay_apart_and_the_agent_joins_them() {
        assert_eq!(
            faults("dataplane/attach.rs", "use crate::world::netlink::Host;").len(),
            1
        );
        assert!(
            faults(
                "agent.rs",
                "use crate::{api, dataplane::Plane, world, model};"
            )
            .is_empty()
        );
        assert_eq!(faults("api/http.rs", "use crate::agent::Agent;").len(), 1);
    }

    #[test]
    fn a_new_folder_needs_a_layer() {
        assert!(
            faults("helpers/text.rs", "")
                .first()
                .unwrap()
                .contains("no layer")
        );
    }

    #[test]
    fn what_tests_use_is_their_own_affair() {
        assert!(
            faults(
                "model/a.rs",
                "fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }"
            )
            .is_empty()
        );
    }
}
