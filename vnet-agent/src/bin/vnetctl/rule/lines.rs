//! Which rules are in a file? One a line, in the words that messages have for them:
//!
//! ```text
//! blue: any -> 52:54:00:00:00:02 = link to-two     # a comment
//! blue: not 52:54:00:00:00:01 -> none = flood
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, ensure};
use vnet_agent::api::{NewRule, RULES_BYTES_MAX};
use vnet_agent::model::Target;

use super::{destination, source};

/// The rules of a file; - is standard input.
///
/// # Errors
/// It cannot be read, or a line is no rule.
pub fn read(file: &Path) -> anyhow::Result<Vec<NewRule>> {
    let most = u64::try_from(RULES_BYTES_MAX)?.saturating_add(1);
    let mut text = String::new();
    let is_standard_input = file == Path::new("-");
    let name = match is_standard_input {
        true => "standard input".to_owned(),
        false => file.display().to_string(),
    };
    if is_standard_input {
        io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(most).read_to_string(&mut text))
    }
    .with_context(|| format!("cannot read {name}"))?;
    ensure!(
        text.len() <= RULES_BYTES_MAX,
        "{name} has more than {RULES_BYTES_MAX} bytes: cut it in two"
    );
    rules(&name, &text)
}

fn rules(name: &str, text: &str) -> anyhow::Result<Vec<NewRule>> {
    let mut rules = Vec::new();
    for (number, line) in (1_usize..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let rule = rule(line);
            rules.push(rule.map_err(|why| anyhow::anyhow!("{name}:{number}: {why}"))?);
        }
    }
    ensure!(!rules.is_empty(), "there is no rule in {name}");
    Ok(rules)
}

fn rule(line: &str) -> Result<NewRule, String> {
    const FORM: &str = "a rule is NETWORK: FROM -> TO = TARGET";
    let (network, rest) = line.split_once(": ").ok_or(FORM)?;
    let (from, rest) = rest.split_once("->").ok_or(FORM)?;
    let (to, target) = rest.split_once('=').ok_or(FORM)?;
    let words: Vec<&str> = target.split_whitespace().collect();
    let target = match words[..] {
        ["link", name] => Target::Link(name.to_owned()),
        ["port", device] => Target::Port(device.to_owned()),
        ["flood"] => Target::Flood,
        ["drop"] => Target::Drop,
        _ => {
            return Err(format!(
                "a target is `link NAME`, `port DEVICE`, `flood` or `drop`, not {:?}",
                target.trim()
            ));
        }
    };
    Ok(NewRule {
        network: network.trim().to_owned(),
        source: source(from.trim())?,
        destination: destination(to.trim())?,
        to: target,
    })
}

#[cfg(test)]
mod tests {
    use vnet_agent::model::{Rule, RuleOrigin};

    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_printed() {
        let lines = "blue: any -> 52:54:00:00:00:02 = link to-two\n\
                     blue: not 52:54:00:00:00:01 -> none = flood\n\
                     green: 52:54:00:00:00:01 -> not 52:54:00:00:00:02 = port tap0\n\
                     green: any -> any = drop\n";
        let text = format!("# all of them\n\n{lines}  # the end\n");
        let printed: String = rules("f", &text)
            .unwrap()
            .into_iter()
            .map(|rule| format!("{}\n", Rule::from(rule)))
            .collect();
        assert_eq!(printed, lines);
    }

    #[test]
    fn a_mistake_is_named_by_its_line() {
        for (line, why) in [
            (
                "blue any any drop",
                "a rule is NETWORK: FROM -> TO = TARGET",
            ),
            ("blue: any -> any = links to-two", "not \"links to-two\""),
            ("blue: none -> any = drop", "a sender is any"),
            ("blue: any -> 52:54 = drop", "a receiver is any"),
        ] {
            let text = format!("blue: any -> none = flood\n{line}\n");
            let error = rules("f", &text).unwrap_err().to_string();
            assert!(error.starts_with("f:2: ") && error.contains(why), "{error}");
        }
        let nothing = rules("f", "# none\n").unwrap_err().to_string();
        assert_eq!(nothing, "there is no rule in f");
        assert!(matches!(
            rule("b: any -> any = flood").map(|rule| Rule::from(rule).origin),
            Ok(RuleOrigin::Api)
        ));
    }
}
