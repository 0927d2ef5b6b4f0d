//! Many rules in one file are one change.

use vnet_agent::api::Ask;
use vnet_agent::model::{Rule, RuleName, RuleOrigin, Target};
use vnet_common::rule::{Destination, Source};

use super::run;
use crate::fake_agent::{FakeAgent, GUEST_ONE, GUEST_TWO};

const LINES: &[u8] = b"# two\n\nblue: not 52:54:00:00:00:01 -> 52:54:00:00:00:02 = link to-two\n\
                       blue: any -> none = flood   # the default\n";

fn rules() -> Vec<Rule> {
    let rule = |source, destination, to| Rule {
        network: "blue".into(),
        source,
        destination,
        to,
        origin: RuleOrigin::Api,
    };
    vec![
        rule(
            Source::Not(GUEST_ONE),
            Destination::Is(GUEST_TWO),
            Target::Link("to-two".into()),
        ),
        rule(Source::Any, Destination::None, Target::Flood),
    ]
}

#[tokio::test]
async fn a_file_is_added_and_deleted_whole() {
    let agent = FakeAgent::start();
    let added = run(agent.socket(), &["rule", "add", "--file", "-"], LINES).await;
    assert_eq!(added.code, Some(0), "{}", added.err);
    assert_eq!(added.out, "added: rules: 2 new\nnote: a note\n");
    let names = rules().into_iter().map(|rule| RuleName {
        network: rule.network,
        source: rule.source,
        destination: rule.destination,
    });
    let deleted = run(agent.socket(), &["rule", "delete", "-f", "-"], LINES).await;
    assert_eq!(deleted.code, Some(0), "{}", deleted.err);
    assert_eq!(
        agent.asked(),
        [
            Ask::ChangeRules {
                delete: Vec::new(),
                add: rules(),
            },
            Ask::ChangeRules {
                delete: names.collect(),
                add: Vec::new(),
            },
        ]
    );
}

#[tokio::test]
async fn a_line_that_is_no_rule_asks_nothing() {
    let agent = FakeAgent::start();
    let text = b"blue: any -> none = flood\nblue any none\n";
    let outcome = run(agent.socket(), &["rule", "add", "-f", "-"], text).await;
    assert_eq!(outcome.code, Some(1));
    let why = "vnetctl: standard input:2: a rule is NETWORK: FROM -> TO = TARGET\n";
    assert_eq!(outcome.err, why);
    assert_eq!(agent.asked(), []);
}
