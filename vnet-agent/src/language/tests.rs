use proptest::prelude::*;
use proptest::sample::select;

use super::token::Keyword;
use super::{TEXT_BYTES_MAX, format, print, read, read_onto};
use crate::model::topology::sample::{some_topology, three};
use crate::model::topology::{LinkKind, Role, Topology};

fn understood(text: &str) -> Topology {
    read("t", text.as_bytes()).unwrap_or_else(|faults| panic!("{text}\n{faults}"))
}

/// What is said about a text: line, column and message of each fault.
fn said(text: &str) -> Vec<String> {
    let faults = read("t", text.as_bytes()).expect_err(text);
    let line = |fault: &super::Fault| format!("{}:{} {}", fault.line, fault.column, fault.message);
    faults.faults.iter().map(line).collect()
}

/// In the words of figure 5 alone, figure 2's table among them.
const FIGURE_5: &str = "\
BEGIN
HOST ashish AT Proxy 4000 eth0
HOST ashish AT Host1 4000 vmnet1
HOST ashish AT Host2 4000 vmnet1
ADD
LINK TCP Host1 Host1 Proxy
LINK UDP Proxy Host2 Proxy
FORWARD INTERFACE Host1 NOT 00:50:56:00:21:01 FF:FF:FF:FF:FF:FF vmnet1
FORWARD INTERFACE Host1 ANY 00 : 00 : 00 : 00 : 00 : 00 00 : 50 : 56 : 00 : 21 : 01 vmnet1
FORWARD EDGE Host1 00:50:56:00:21:01 NONE Host1 Proxy
FORWARD EDGE Host2 ANY 00:00:00:00:00:00 ANY 00:00:00:00:00:00 Host2 Proxy
ADD LINK UDP Host1 Host1 Host2
DELETE LINK TCP Host1 Host1 Proxy FORWARD EDGE Host1 00:50:56:00:21:01 NONE Host1 Proxy
ADD FORWARD EDGE Host1 00:50:56:00:21:01 NONE Host1 Host2
END
";

#[test]
fn the_words_of_figure_5_are_understood() {
    let topology = understood(FIGURE_5);
    let expected = "\
BEGIN

NETWORK default 1

HOST ashish AT Host1 4000 vmnet1
HOST ashish AT Host2 4000 vmnet1
HOST ashish AT Proxy 4000 eth0

ADD
LINK UDP Host1 Host2
LINK UDP Host2 Proxy

FORWARD INTERFACE Host1 ANY 00:50:56:00:21:01 vmnet1
FORWARD INTERFACE Host1 NOT 00:50:56:00:21:01 ff:ff:ff:ff:ff:ff vmnet1
FORWARD EDGE Host1 00:50:56:00:21:01 NONE Host1 Host2
FORWARD EDGE Host2 ANY ANY Host2 Proxy

END
";
    let mut printed = print(&topology);
    // Both are about one destination, and the stronger comes first.
    let lines = expected.lines().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(
        printed.lines().collect::<std::collections::BTreeSet<_>>(),
        lines
    );
    printed = printed.replace('\n', " ");
    assert_eq!(understood(&printed), topology, "lines mean nothing");
}

#[test]
fn what_this_system_adds_is_understood() {
    let topology = understood(
        "BEGIN # a comment\n\
         NETWORK blue 7 NETWORK green 8\n\
         HOST root AT proxy 6081 eth0 ADDRESS 10.0.0.100 PROXY\n\
         HOST root AT \"HOST\" 6081 eth0 ADDRESS fd00::1\n\
         HOST root AT 10.9.9.9 6081 eth0 FOREIGN\n\
         VM vm1 52-54-00-00-00-01 ON \"HOST\" tap1 IN blue FIXED\n\
         VM vm2 52:54:00:00:00:01 ON proxy IN green\n\
         ADD LINK TLS \"HOST\" proxy \"HOST\" CARRIES blue, green FLOOD ALWAYS\n\
         LINK PLAIN proxy 10.9.9.9 CARRIES green FLOOD NEVER\n\
         FORWARD DROP proxy ANY NOT 52:54:00:00:00:01 IN blue\n\
         FORWARD FLOOD proxy ANY NONE IN blue END"
            .replace("fd00::1", "10.0.0.1")
            .as_str(),
    );
    assert_eq!(topology.proxy().unwrap().name, "proxy");
    assert_eq!(topology.host("10.9.9.9").unwrap().role, Role::Foreign);
    assert_eq!(
        topology
            .host("10.9.9.9")
            .unwrap()
            .underlay()
            .unwrap()
            .to_string(),
        "10.9.9.9"
    );
    assert!(topology.vms[0].fixed);
    assert_eq!(topology.vms[1].device, "eth0", "the host's own interface");
    let tls = topology
        .links
        .iter()
        .find(|l| l.kind == LinkKind::Tls)
        .unwrap();
    assert_eq!((tls.from.as_str(), tls.to.as_str()), ("HOST", "proxy"));
    let rules: Vec<String> = topology.rules.iter().map(ToString::to_string).collect();
    assert_eq!(
        rules,
        [
            "on proxy, blue: any -> not 52:54:00:00:00:01 = drop",
            "on proxy, blue: any -> none = flood"
        ]
    );
}

#[test]
fn a_mistake_is_shown_where_it_is() {
    let text = "BEGIN\nHOST admin AT one 6081 eth0\n\tHOST admin AT two eth0\nEND\n";
    let faults = read("lan.vnet", text.as_bytes()).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "\
lan.vnet:3:20: eth0 is no port
  |
3 |  HOST admin AT two eth0
  |                    ^^^^
  = write a port, such as 6081"
    );
}

#[test]
fn each_mistake_says_what_was_expected() {
    let hosts = "HOST a AT one 1 eth0 HOST a AT two 1 eth0";
    for (text, expected) in [
        ("", "1:1 expected BEGIN, found the end of the text"),
        (
            "BEGIN",
            "1:6 expected END or a statement, found the end of the text",
        ),
        (
            "BEGIN END END",
            "1:11 expected the end of the text, found END",
        ),
        ("BEGIN foo END", "1:7 expected a statement, found foo"),
        (
            "BEGIN HOST a IN one 1 eth0 END",
            "1:14 expected AT, found IN",
        ),
        (
            "BEGIN HOST a AT PROXY 1 eth0 END",
            "1:17 expected a machine's name, found PROXY",
        ),
        (
            "BEGIN NETWORK blue 0 END",
            "1:20 0 is no network id, which is a number from 1 to 16777215",
        ),
        (
            "BEGIN VM a 52:54:00 ON one END",
            "1:12 expected an Ethernet address, found 52:54:00",
        ),
        (
            "BEGIN HOST \"a AT one 1 eth0 END",
            "1:12 expected a user's name, found a quote that is not closed in its line",
        ),
        (
            "BEGIN HOST a AT one 1 eth0 ADDRESS ten END",
            "1:36 ten is no IP address",
        ),
        (
            "BEGIN HOSTS ADD LINK SSL one two END",
            "1:7 expected a statement, found HOSTS",
        ),
    ] {
        assert_eq!(said(text)[0], expected, "{text}");
    }
    for (text, expected) in [
        (
            "ADD LINK UDP one END",
            "18 expected a machine's name, found END",
        ),
        (
            "LINK UDP one two END",
            "1 nothing says whether this is to be added or deleted",
        ),
        (
            "DELETE LINK UDP one two END",
            "8 there is no udp link between \"one\" and \"two\" to delete",
        ),
        (
            "ADD LINK UDP one one END",
            "18 a link from \"one\" to itself",
        ),
        ("ADD LINK UDP one tow END", "18 there is no host \"tow\""),
        (
            "ADD FORWARD EDGE one ANY ANY two two END",
            "30 the edge from \"two\" to \"two\" does not begin at \"one\"",
        ),
        (
            "ADD FORWARD EDGE one ANY ANY one two END",
            "34 there is no link from \"one\" to \"two\" that carries network \"default\"",
        ),
        (
            "NETWORK blue 1 NETWORK red 2 ADD FORWARD DROP one ANY ANY END",
            "34 there are 2 networks, and none is named",
        ),
        (
            "ADD FORWARD DROP one ANY ANY FORWARD FLOOD one ANY ANY END",
            "30 two rules of \"one\" about any -> any in network \"default\" contradict each other: drop, flood",
        ),
    ] {
        let text = format!("BEGIN {hosts}\n{text}");
        assert_eq!(said(&text)[0], format!("2:{expected}"), "{text}");
    }
}

#[test]
fn all_mistakes_of_a_text_are_shown_at_once() {
    let text = "\
BEGIN
HOST admin one 6081 eth0
HOST admin AT two 6081
NETWORK blue seven
VM vm1 52:54 ON one
ADD
LINK SSL one two
FORWARD EDGE one ANY one two
FORWARD INTERFACE one NOT ANY tap0
END
";
    let lines: Vec<String> = said(text);
    let numbers: Vec<&str> = lines.iter().filter_map(|l| l.split(':').next()).collect();
    assert_eq!(numbers, ["2", "3", "4", "5", "7", "8", "9"], "{lines:#?}");
}

#[test]
fn a_cure_names_what_may_have_been_meant() {
    let cure = |text: &str| {
        let faults = read("t", text.as_bytes()).expect_err(text);
        faults.faults[0].cure.clone()
    };
    assert_eq!(cure("BEGIN HOTS a AT one 1 eth0 END"), "did you mean HOST?");
    assert_eq!(cure("BEGIN HOST a at one 1 eth0 END"), "did you mean AT?");
    assert_eq!(
        cure("BEGIN HOST a AT PROXY 1 eth0 END"),
        "PROXY is a word of the language: as a name it stands in quotes, \"PROXY\""
    );
    assert_eq!(
        cure("BEGIN VM v 52:54:00:00:00:01 ON tow NETWORK default 1 HOST a AT two 1 eth0 END"),
        "did you mean \"two\"?"
    );
}

#[test]
fn a_text_can_be_carried_out_on_what_is_there() {
    let base = three();
    let text = "BEGIN VM vm3 52:54:00:00:00:03 ON one tap9 IN blue \
                DELETE FORWARD EDGE one ANY 52:54:00:00:00:02 one two IN blue \
                FORWARD EDGE two ANY 52:54:00:00:00:01 two one IN blue \
                LINK UDP one two CARRIES blue END";
    let after = read_onto("t", text.as_bytes(), &base).unwrap();
    assert_eq!((after.vms.len(), after.vms[2].host.as_str()), (3, "one"));
    assert_eq!(after.links.len() + 1, base.links.len());
    assert_eq!(after.rules.len() + 2, base.rules.len());
    let only_link = "BEGIN DELETE LINK UDP one two END";
    let faults = read_onto("t", only_link.as_bytes(), &base).unwrap_err();
    assert_eq!(
        faults.faults[0].message,
        "after this, there is no link from \"one\" to \"two\" that carries network \"blue\""
    );
}

#[test]
fn a_text_has_bounds() {
    let long = vec![b' '; TEXT_BYTES_MAX + 1];
    let faults = read("t", &long).unwrap_err();
    assert!(
        faults.to_string().contains("write at most 8388608 bytes"),
        "{faults}"
    );
    let faults = read("t", b"BEGIN\n  \xff").unwrap_err();
    assert_eq!((faults.faults[0].line, faults.faults[0].column), (2, 3));
    let wrong = "HOST\n".repeat(100_000);
    let faults = read("t", format!("BEGIN {wrong} END").as_bytes()).unwrap_err();
    assert_eq!(faults.faults.len(), 100);
    let name = "a".repeat(1_000_000);
    let shown = read("t", format!("BEGIN {name} END").as_bytes()).unwrap_err();
    assert!(shown.to_string().len() < 2000);
}

#[test]
fn tidying_up_keeps_order_and_comments() {
    let text = "# Our LAN.\nBEGIN   NETWORK blue 7 # the only one\n\n\n\
                HOST  root  AT two 6081 eth0\n  # the first comes second\nHOST root AT\none 6081 eth0\n\
                ADD LINK UDP two\n one FORWARD FLOOD one ANY NONE END # that is all";
    let expected = "\
# Our LAN.
BEGIN
NETWORK blue 7  # the only one

HOST root AT two 6081 eth0
# the first comes second
HOST root AT one 6081 eth0
ADD
LINK UDP two one
FORWARD FLOOD one ANY NONE
END  # that is all
";
    assert_eq!(format("t", text.as_bytes()).unwrap(), expected);
    assert_eq!(format("t", expected.as_bytes()).unwrap(), expected);
    assert_eq!(understood(text), understood(expected));
    assert!(format("t", b"BEGIN HOST END").is_err());
}

/// Words of the language and others, in any order.
fn some_words() -> impl Strategy<Value = String> {
    let mut words: Vec<String> = Keyword::ALL.iter().map(|k| k.text().to_owned()).collect();
    let others = [
        "one",
        "two",
        "6081",
        "7",
        "52:54:00:00:00:01",
        "\"a b\"",
        ",",
        "# x\n",
        "\"",
        "\\",
    ];
    words.extend(others.map(str::to_owned));
    let word = prop_oneof![4 => select(words), 1 => "\\PC{0,3}"];
    prop::collection::vec(word, 0..40).prop_map(|words| words.join(" "))
}

/// A text that means something, with one stretch of it replaced.
fn some_slips() -> impl Strategy<Value = Vec<u8>> {
    let parts = (any::<prop::sample::Index>(), 0..20usize, some_words());
    (some_topology(), parts).prop_map(|(topology, (place, length, words))| {
        let mut bytes = print(&topology).into_bytes();
        let start = place.index(bytes.len());
        let end = (start + length).min(bytes.len());
        bytes.splice(start..end, words.into_bytes());
        bytes
    })
}

/// Whatever is read either means something, which printing and reading keeps, or is refused with a
/// place that is in the text.
fn holds(bytes: &[u8]) -> Result<(), TestCaseError> {
    match read("t", bytes) {
        Ok(topology) => {
            let printed = print(&topology);
            prop_assert_eq!(read("t", printed.as_bytes()), Ok(topology.clone()));
            let tidy = format("t", bytes);
            let tidy = tidy.map_err(|faults| TestCaseError::fail(faults.to_string()))?;
            prop_assert_eq!(read("t", tidy.as_bytes()), Ok(topology));
            prop_assert_eq!(format("t", tidy.as_bytes()), Ok(tidy));
        }
        Err(faults) => {
            prop_assert!(!faults.faults.is_empty());
            let lines = bytes.split(|&byte| byte == b'\n').count();
            for fault in &faults.faults {
                prop_assert!(fault.line <= lines && !fault.message.is_empty());
            }
            prop_assert!(!faults.to_string().contains('\0'));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(topology in some_topology()) {
        let text = print(&topology);
        let again = read("t", text.as_bytes());
        prop_assert_eq!(again.as_ref(), Ok(&topology), "{}", text);
        prop_assert_eq!(print(&again.unwrap()), text.clone());
        // Empty lines between groups are the printer's taste, and stay.
        prop_assert_eq!(format("t", text.as_bytes()), Ok(text));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        holds(&bytes)?;
    }

    #[test]
    fn any_words_are_read_or_refused(words in some_words()) {
        holds(words.as_bytes())?;
        holds(format!("BEGIN {words} END").as_bytes())?;
    }

    #[test]
    fn a_slip_of_the_keyboard_is_read_or_refused(bytes in some_slips()) {
        holds(&bytes)?;
    }
}

/// The blocks of the documentation that are marked so.
fn blocks(mark: &str) -> Vec<String> {
    let page = include_str!("../../../docs/language.md");
    let start = format!("```{mark}\n");
    let parts = page.split(start.as_str()).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_documentation_tells_the_truth() {
    let examples = blocks("vnet");
    assert_eq!(examples.len(), 3);
    for example in examples {
        let topology = understood(&example);
        assert_eq!(understood(&print(&topology)), topology);
    }
    let mistakes = blocks("vnet-wrong");
    assert_eq!(mistakes.len(), 2);
    for (wrong, expected) in mistakes.iter().zip(blocks("text")) {
        let faults = read("lan.vnet", wrong.as_bytes()).unwrap_err();
        assert_eq!(format!("{faults}\n"), expected);
    }
}
