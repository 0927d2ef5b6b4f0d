//! How much do the programs ask of the verifier, and is it granted?
//!
//! Input: the loaded programs' figures on a kernel. Compared with `budget.toml`, which is committed
//! and has a part for each kernel that is tested: what grows by more than a fifth does so on
//! purpose, or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use vnet_agent::dataplane::DataPlane;
use vnet_agent::dataplane::object::OBJECT;
use vnet_common::name;

use crate::stack;

/// Set to 1, the figures of now are written into `budget.toml`.
const UPDATE: &str = "VNET_UPDATE_BUDGET";

/// The largest program that this project wants: three fifths of the million that the kernel takes.
const VERIFIED_INSTRUCTIONS_MAX: u32 = 600_000;

const HEADER: &str = "\
# Instructions that the verifier goes through, bytes of the program and of its stack, by kernel and
# program.
# Checked by the tests `budgets` (this machine's kernel) and `an_older_kernel_takes_the_programs`
# (Debian's) of this crate; written by them with VNET_UPDATE_BUDGET=1.
";

/// In front of each line of costs that one program prints for another to read.
const MARK: &str = "cost| ";

/// What a program costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Instructions that the verifier went through, all paths together.
    pub verified_instructions: u32,
    /// Bytes of the program, as the kernel runs it before compiling.
    pub translated_bytes: u32,
    /// Bytes of the stack, all functions of the deepest chain of calls together.
    pub stack_bytes: u32,
}

/// What the programs cost on one kernel, by their names.
pub type Costs = BTreeMap<String, Cost>;

/// What is granted to them, by kernel.
type Budget = BTreeMap<String, Costs>;

/// What the loaded programs cost on the running kernel.
///
/// # Errors
///
/// The kernel does not tell.
pub fn costs(plane: &DataPlane) -> Result<Costs> {
    let stacks = stack::depths(OBJECT)?;
    let figures = plane.programs().into_iter();
    let costs = figures.map(|program| {
        let silent = || format!("the kernel does not tell what {} costs", program.name);
        let cost = Cost {
            verified_instructions: program.verified_instructions.with_context(silent)?,
            translated_bytes: program.translated_bytes.with_context(silent)?,
            stack_bytes: *stacks.get(&program.name).with_context(silent)?,
        };
        Ok((program.name.clone(), cost))
    });
    costs.collect()
}

/// The running kernel, as the budget calls it: the first two numbers of its release.
///
/// # Errors
///
/// /proc cannot be read.
pub fn running_kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(kernel(&release).to_owned())
}

/// `6.1` of `6.1.0-56-cloud-amd64`.
pub fn kernel(release: &str) -> &str {
    let end = release.match_indices('.').nth(1).map(|(at, _)| at);
    end.and_then(|end| release.get(..end))
        .unwrap_or(release)
        .trim()
}

/// Prints the costs for [`printed`] to read.
///
/// # Errors
///
/// They cannot be written as text.
pub fn print(costs: &Costs) -> Result<()> {
    for line in toml::to_string(costs)?.lines() {
        println!("{MARK}{line}");
    }
    Ok(())
}

/// The costs in what a program printed.
///
/// # Errors
///
/// There are none.
pub fn printed(text: &str) -> Result<Costs> {
    let lines: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix(MARK))
        .collect();
    Ok(toml::from_str(&lines.join("\n"))?)
}

/// Compares the costs on a kernel with what is granted, and returns what is wrong, as sentences.
/// Writes them down first where that is wanted.
///
/// # Errors
///
/// `budget.toml` cannot be read or written.
pub fn check(kernel: &str, now: &Costs) -> Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut budget: Budget = toml::from_str(&text)?;
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        budget.insert(kernel.to_owned(), now.clone());
        fs::write(&path, format!("{HEADER}\n{}", toml::to_string(&budget)?))?;
    }
    let mut wrong = excesses(&granted(&budget, kernel), now);
    if !wrong.is_empty() {
        wrong.push(format!(
            "That is on Linux {kernel}. If it is worth it, run this test again with {UPDATE}=1 and \
             commit {}",
            path.display()
        ));
    }
    Ok(wrong)
}

/// Of these a kernel takes one or the other.
const EITHER: [&str; 2] = [name::FRAME_REFUSED, name::DEVICE_REFUSED];

/// What is granted on a kernel: where it has no part of its own, the most of any. So too for the one
/// of [`EITHER`] that its part does not have.
fn granted(budget: &Budget, kernel: &str) -> Costs {
    let mut granted = most(budget);
    if let Some(costs) = budget.get(kernel) {
        granted.retain(|name, _| EITHER.contains(&&**name) || costs.contains_key(name));
        granted.extend(costs.clone());
    }
    granted
}

fn most(budget: &Budget) -> Costs {
    let mut most = Costs::new();
    for (name, cost) in budget.values().flatten() {
        let entry = most.entry(name.clone()).or_insert(*cost);
        let Cost {
            verified_instructions,
            translated_bytes,
            stack_bytes,
        } = *cost;
        entry.verified_instructions = entry.verified_instructions.max(verified_instructions);
        entry.translated_bytes = entry.translated_bytes.max(translated_bytes);
        entry.stack_bytes = entry.stack_bytes.max(stack_bytes);
    }
    most
}

fn excesses(granted: &Costs, now: &Costs) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, cost) in now {
        let Some(granted) = granted.get(name) else {
            wrong.push(format!("{name} has no budget"));
            continue;
        };
        let instructions = (cost.verified_instructions, granted.verified_instructions);
        let bytes = (cost.translated_bytes, granted.translated_bytes);
        let stack = (cost.stack_bytes, granted.stack_bytes);
        let figures = [
            ("verified instructions", instructions),
            ("bytes", bytes),
            ("bytes of stack", stack),
        ];
        for (what, (now, granted)) in figures {
            if now > granted + granted / 5 {
                wrong.push(format!("{name} went from {granted} to {now} {what}"));
            }
        }
        if cost.verified_instructions > VERIFIED_INSTRUCTIONS_MAX {
            wrong.push(format!(
                "{name} is too much: {} instructions",
                cost.verified_instructions
            ));
        }
    }
    let is_there = |name: &str| {
        now.contains_key(name)
            || (EITHER.contains(&name) && EITHER.iter().any(|other| now.contains_key(*other)))
    };
    for name in granted.keys().filter(|name| !is_there(name)) {
        wrong.push(format!("{name} has a budget and is not there"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(verified_instructions: u32) -> Costs {
        let cost = Cost {
            verified_instructions,
            translated_bytes: 100,
            stack_bytes: 32,
        };
        Costs::from([("port_xdp".to_owned(), cost)])
    }

    #[test]
    fn a_fifth_more_is_fine_and_what_is_beyond_is_not() {
        assert_eq!(excesses(&costs(1000), &costs(1200)), Vec::<String>::new());
        assert_eq!(
            excesses(&costs(1000), &costs(1201)),
            ["port_xdp went from 1000 to 1201 verified instructions"]
        );
        assert_eq!(
            excesses(&costs(1000), &Costs::new()),
            ["port_xdp has a budget and is not there"]
        );
        assert_eq!(
            excesses(&Costs::new(), &costs(1)),
            ["port_xdp has no budget"]
        );
    }

    #[test]
    fn a_kernel_has_its_own_budget_or_the_largest() {
        let budget = Budget::from([("6.1".to_owned(), costs(5)), ("6.18".to_owned(), costs(4))]);
        assert_eq!(granted(&budget, "6.18"), costs(4));
        assert_eq!(granted(&budget, "6.12"), costs(5));
    }

    #[test]
    fn of_two_programs_that_do_the_same_one_is_enough() {
        let called = |name: &str| {
            costs(7)
                .into_values()
                .map(|cost| (name.to_owned(), cost))
                .collect()
        };
        let [frame, device]: [Costs; 2] = EITHER.map(called);
        let budget = Budget::from([
            ("6.1".to_owned(), frame.clone()),
            ("6.18".to_owned(), device.clone()),
        ]);
        for now in [&frame, &device] {
            assert_eq!(
                excesses(&granted(&budget, "6.18"), now),
                Vec::<String>::new()
            );
        }
        assert_eq!(excesses(&granted(&budget, "6.18"), &Costs::new()).len(), 2);
    }

    #[test]
    fn a_kernel_is_called_by_its_first_two_numbers() {
        assert_eq!(kernel("6.1.0-56-cloud-amd64\n"), "6.1");
        assert_eq!(kernel("6.18.3"), "6.18");
        assert_eq!(kernel("7.0\n"), "7.0");
    }

    #[test]
    fn what_is_printed_is_read_among_other_lines() {
        let mut text = "running 1 test\n".to_owned();
        for line in toml::to_string(&costs(7)).unwrap().lines() {
            text.push_str(&format!("{MARK}{line}\n"));
        }
        assert_eq!(printed(&text).unwrap(), costs(7));
    }
}
