//! How much do the programs ask of the verifier? Compared with `budget.toml`, which is committed:
//! what grows by more than a fifth does so on purpose, or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dataplane::kernel::Kernel;
use dataplane::machine::on_a_machine;
use serde::{Deserialize, Serialize};

/// Set to 1, the figures of now are written into `budget.toml`.
const UPDATE: &str = "VNET_UPDATE_BUDGET";

/// The largest program that this project wants: a quarter of the million that the kernel takes.
const VERIFIED_INSTRUCTIONS_MAX: u32 = 250_000;

const HEADER: &str = "\
# Instructions that the verifier goes through, and bytes of the program, on Linux 6.18.
# Checked by tests/dataplane/tests/budgets.rs; written by it with VNET_UPDATE_BUDGET=1.
";

/// What a program costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    verified_instructions: u32,
    translated_bytes: u32,
}

type Budget = BTreeMap<String, Cost>;

/// What is wrong with these costs, as sentences.
fn excesses(budget: &Budget, now: &Budget) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, cost) in now {
        let Some(granted) = budget.get(name) else {
            wrong.push(format!("{name} has no budget"));
            continue;
        };
        let figures = [
            (
                "verified instructions",
                cost.verified_instructions,
                granted.verified_instructions,
            ),
            ("bytes", cost.translated_bytes, granted.translated_bytes),
        ];
        for (what, now, granted) in figures {
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
    for name in budget.keys().filter(|name| !now.contains_key(*name)) {
        wrong.push(format!("{name} has a budget and is not there"));
    }
    wrong
}

#[test]
fn no_program_grows_by_more_than_a_fifth() {
    let figures = on_a_machine(|machine| Kernel::load(machine).unwrap().plane.programs());
    let now: Budget = figures
        .into_iter()
        .map(|program| {
            let cost = Cost {
                verified_instructions: program.verified_instructions.unwrap(),
                translated_bytes: program.translated_bytes.unwrap(),
            };
            (program.name, cost)
        })
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.toml");
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::write(
            &path,
            format!("{HEADER}\n{}", toml::to_string(&now).unwrap()),
        )
        .unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    let budget: Budget = toml::from_str(&text).unwrap();
    let wrong = excesses(&budget, &now);
    assert!(
        wrong.is_empty(),
        "{}\nIf it is worth that, run this test again with {UPDATE}=1 and commit {}",
        wrong.join("\n"),
        path.display()
    );
}

#[test]
fn a_fifth_more_is_fine_and_what_is_beyond_is_not() {
    let budget = |verified_instructions| {
        let cost = Cost {
            verified_instructions,
            translated_bytes: 100,
        };
        Budget::from([("port_xdp".to_owned(), cost)])
    };
    assert_eq!(excesses(&budget(1000), &budget(1200)), Vec::<String>::new());
    let wrong = excesses(&budget(1000), &budget(1201));
    assert_eq!(
        wrong,
        ["port_xdp went from 1000 to 1201 verified instructions"]
    );
    assert_eq!(
        excesses(&budget(1000), &Budget::new()),
        ["port_xdp has a budget and is not there"]
    );
    assert_eq!(
        excesses(&Budget::new(), &budget(1)),
        ["port_xdp has no budget"]
    );
}
