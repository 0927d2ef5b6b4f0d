//! Which statements is a text made of?
//!
//! Grammar: figure 5 of the thesis proposal, with what `docs/language.md` adds. A statement that
//! cannot be read is reported once; the next one that begins with a word of the language is read
//! again, so that a text shows all of its mistakes.

use std::net::IpAddr;
use std::ops::Range;

use chumsky::error::{RichPattern, RichReason};
use chumsky::input::MappedInput;
use chumsky::prelude::*;
use vnet_common::addr::{Mac, NetworkId};
use vnet_common::rule::{Destination, Source};

use super::fault::Finding;
use super::statement::{Action, Program, Said, Statement, Towards};
use super::token::{Keyword, Spanned, Token};
use crate::model::suggest::suggestion;
use crate::model::topology::{Flooding, LinkKind, Role};

type Tokens<'t> = MappedInput<'t, Token, SimpleSpan, &'t [Spanned<Token>]>;
type Errors<'t> = extra::Err<Rich<'t, Token, SimpleSpan>>;

/// The statements of a text that consists of these tokens.
///
/// # Errors
/// Everything that is no statement.
pub(super) fn parse(text: &str, tokens: &[Spanned<Token>]) -> Result<Program, Vec<Finding>> {
    let words: Vec<Spanned<Token>> = tokens
        .iter()
        .filter(|(token, _)| !matches!(token, Token::Comment(_)))
        .cloned()
        .collect();
    let end = SimpleSpan::from(text.len()..text.len());
    let input: Tokens<'_> = words.as_slice().split_token_span(end);
    let (program, errors) = program().parse(input).into_output_errors();
    match program {
        Some(program) if errors.is_empty() => Ok(program),
        _ => {
            let findings = errors.iter().map(|error| finding(text, error, &words));
            Err(findings.collect())
        }
    }
}

fn program<'t>() -> impl Parser<'t, Tokens<'t>, Program, Errors<'t>> {
    let statement = statement().map(Some).boxed();
    let is_first = any().filter(|token: &Token| match token {
        Token::Keyword(keyword) => keyword.is_first() || *keyword == Keyword::End,
        _ => false,
    });
    let skipped = any()
        .and_is(word(Keyword::End).not())
        .then(any().and_is(is_first.not()).repeated())
        .to(None);
    let statements = statement
        .map_with(|statement, extra| statement.map(|value| said(value, extra.span())))
        .recover_with(via_parser(skipped))
        .repeated()
        .collect::<Vec<_>>();
    word(Keyword::Begin)
        .recover_with(via_parser(empty()))
        .ignore_then(statements)
        .then_ignore(word(Keyword::End))
        .then_ignore(end())
        .map_with(|statements, extra| Program {
            statements: statements.into_iter().flatten().collect(),
            span: bytes(extra.span()),
        })
}

fn statement<'t>() -> impl Parser<'t, Tokens<'t>, Statement, Errors<'t>> {
    let action = choice((
        word(Keyword::Add).to(Action::Add),
        word(Keyword::Delete).to(Action::Delete),
    ));
    choice((
        host().boxed(),
        network().boxed(),
        vm().boxed(),
        action.map(Statement::Action),
        link().boxed(),
        forward().boxed(),
    ))
}

fn host<'t>() -> impl Parser<'t, Tokens<'t>, Statement, Errors<'t>> {
    let role = choice((
        word(Keyword::Proxy).to(Role::Proxy),
        word(Keyword::Foreign).to(Role::Foreign),
    ));
    let address = parsed::<IpAddr>("an IP address", "10.0.0.2", "is no IP address");
    word(Keyword::Host)
        .ignore_then(name("a user's name"))
        .then_ignore(word(Keyword::At))
        .then(name("a machine's name"))
        .then(parsed::<u16>("a port", "6081", "is no port"))
        .then(name("an interface"))
        .then(word(Keyword::Address).ignore_then(address).or_not())
        .then(
            role.map_with(|role, extra| said(role, extra.span()))
                .or_not(),
        )
        .map(
            |(((((user, name), port), interface), address), role)| Statement::Host {
                user,
                name,
                port,
                interface,
                address,
                role,
            },
        )
}

fn network<'t>() -> impl Parser<'t, Tokens<'t>, Statement, Errors<'t>> {
    word(Keyword::Network)
        .ignore_then(name("a network's name"))
        .then(parsed::<NetworkId>(
            "a network's id",
            "7",
            "is no network id, which is a number from 1 to 16777215",
        ))
        .map(|(name, id)| Statement::Network { name, id })
}

fn vm<'t>() -> impl Parser<'t, Tokens<'t>, Statement, Errors<'t>> {
    word(Keyword::Vm)
        .ignore_then(name("a VM's name"))
        .then(mac())
        .then_ignore(word(Keyword::On))
        .then(name("a machine's name"))
        .then(name("a device").or_not())
        .then(in_network())
        .then(word(Keyword::Fixed).or_not())
        .map(
            |(((((name, mac), host), device), network), fixed)| Statement::Vm {
                name,
                mac,
                host,
                device,
                network,
                is_fixed: fixed.is_some(),
            },
        )
}

fn link<'t>() -> impl Parser<'t, Tokens<'t>, Statement, Errors<'t>> {
    let kind = choice((
        word(Keyword::Udp).to(LinkKind::Udp),
        word(Keyword::Tcp).to(LinkKind::Tcp),
        word(Keyword::Tls).to(LinkKind::Tls),
        word(Keyword::Plain).to(LinkKind::Plain),
    ));
    let networks = name("a network's name")
        .separated_by(just(Token::Comma))
        .at_least(1)
        .collect::<Vec<_>>();
    let flood = choice((
        word(Keyword::Always).to(Flooding::Always),
        word(Keyword::Never).to(Flooding::Never),
        word(Keyword::Ports).to(Flooding::FromPorts),
    ));
    let machines = name("a machine's name").repeated().at_least(2).at_most(3);
    word(Keyword::Link)
        .ignore_then(kind)
        .then(machines.collect::<Vec<_>>())
        .then(word(Keyword::Carries).ignore_then(networks).or_not())
        .then(word(Keyword::Flood).ignore_then(flood).or_not())
        .map(|(((kind, machines), carries), flood)| Statement::Link {
            kind,
            machines,
            carries,
            flood,
        })
}

fn forward<'t>() -> impl Parser<'t, Tokens<'t>, Statement, Errors<'t>> {
    let sides = || name("a machine's name").then(source()).then(destination());
    let edge = word(Keyword::Edge)
        .ignore_then(sides())
        .then(name("the machine that the edge begins at"))
        .then(name("the machine that the edge ends at"))
        .map(|((sides, from), to)| (sides, Towards::Edge(from, to)));
    let interface = word(Keyword::Interface)
        .ignore_then(sides())
        .then(name("an interface").map(Towards::Interface));
    let flood = word(Keyword::Flood)
        .ignore_then(sides())
        .map(|sides| (sides, Towards::Flood));
    let drop = word(Keyword::Drop)
        .ignore_then(sides())
        .map(|sides| (sides, Towards::Drop));
    word(Keyword::Forward)
        .ignore_then(choice((edge.boxed(), interface.boxed(), flood, drop)))
        .then(in_network())
        .map(
            |((((host, source), destination), to), network)| Statement::Forward {
                host,
                source,
                destination,
                to,
                network,
            },
        )
}

/// Figure 5 has an address after every qualifier; after ANY it says nothing, and may be left out.
/// An address that stands between ANY and where the frames go is the receiver's.
fn source<'t>() -> impl Parser<'t, Tokens<'t>, Said<Source>, Errors<'t>> {
    let next = choice((
        word(Keyword::Any),
        word(Keyword::Not),
        word(Keyword::None),
        mac().ignored(),
    ));
    choice((
        word(Keyword::Any)
            .then(mac())
            .then_ignore(next.rewind())
            .to(Source::Any),
        word(Keyword::Any).to(Source::Any),
        word(Keyword::Not)
            .ignore_then(mac())
            .map(|mac| Source::Not(mac.value)),
        mac().map(|mac| Source::Is(mac.value)),
    ))
    .map_with(|source, extra| said(source, extra.span()))
}

fn destination<'t>() -> impl Parser<'t, Tokens<'t>, Said<Destination>, Errors<'t>> {
    let ignored = || mac().or_not();
    choice((
        word(Keyword::Any).then(ignored()).to(Destination::Any),
        word(Keyword::None).then(ignored()).to(Destination::None),
        word(Keyword::Not)
            .ignore_then(mac())
            .map(|mac| Destination::Not(mac.value)),
        mac().map(|mac| Destination::Is(mac.value)),
    ))
    .map_with(|destination, extra| said(destination, extra.span()))
}

fn in_network<'t>() -> impl Parser<'t, Tokens<'t>, Option<Said<String>>, Errors<'t>> {
    word(Keyword::In)
        .ignore_then(name("a network's name"))
        .or_not()
}

fn word<'t>(keyword: Keyword) -> impl Parser<'t, Tokens<'t>, (), Errors<'t>> + Clone {
    just(Token::Keyword(keyword)).ignored()
}

fn name<'t>(what: &'static str) -> impl Parser<'t, Tokens<'t>, Said<String>, Errors<'t>> + Clone {
    select! {
        Token::Word(name) => name,
        Token::Quoted(name) => name,
    }
    .map_with(|name, extra| said(name, extra.span()))
    .labelled(what)
}

fn mac<'t>() -> impl Parser<'t, Tokens<'t>, Said<Mac>, Errors<'t>> + Clone {
    select! { Token::Mac(mac) => mac }
        .map_with(|mac, extra| said(mac, extra.span()))
        .labelled("an Ethernet address")
}

/// A word that has to mean something.
fn parsed<'t, T: std::str::FromStr>(
    what: &'static str,
    example: &'static str,
    wrong: &'static str,
) -> impl Parser<'t, Tokens<'t>, Said<T>, Errors<'t>> {
    select! { Token::Word(word) => word }
        .labelled(what)
        .try_map(move |word: String, span| {
            let message = || format!("{word} {wrong}{CURE}write {what}, such as {example}");
            let value = word.parse().map_err(|_| Rich::custom(span, message()))?;
            Ok(said(value, span))
        })
}

/// Stands between message and cure in an error of our own.
const CURE: char = '\0';

const fn bytes(span: SimpleSpan) -> Range<usize> {
    span.start..span.end
}

const fn said<T>(value: T, span: SimpleSpan) -> Said<T> {
    Said {
        value,
        span: bytes(span),
    }
}

/// What a parser's error is, for people.
fn finding(text: &str, error: &Rich<'_, Token, SimpleSpan>, words: &[Spanned<Token>]) -> Finding {
    let span = bytes(*error.span());
    let (expected, found) = match error.reason() {
        RichReason::Custom(message) => {
            let (message, cure) = message.split_once(CURE).unwrap_or((message, ""));
            return Finding::new(span, message, cure);
        }
        RichReason::ExpectedFound { expected, found } => (expected, found),
    };
    let wanted = expected_words(expected);
    let place = words.partition_point(|(_, other)| other.start < span.start);
    let before = words.get(..place).unwrap_or(words);
    let found = found.as_ref().map(|found| &**found);
    let mut what = found.map_or("the end of the text".to_owned(), Token::to_string);
    // What is missing is missing where the line ends, not where the next one begins.
    let mut shown = span.clone();
    if let Some((_, last)) = before.last()
        && let Some(between) = text.get(last.end..span.start)
        && between.contains('\n')
    {
        shown = last.end..last.end;
        if found.is_some() {
            what.push_str(" on a later line");
        }
    }
    let message = format!("expected {}, found {what}", listed(&wanted));
    Finding::new(shown, message, cure(found, &wanted, before))
}

/// The expected things, without the statements that may follow anywhere.
fn expected_words(expected: &[RichPattern<'_, Token>]) -> Vec<String> {
    let mut wanted = Vec::new();
    let mut next = false;
    for pattern in expected {
        match pattern {
            RichPattern::Token(token) => match &**token {
                Token::Keyword(keyword) if keyword.is_first() => next = true,
                token => wanted.push(token.to_string()),
            },
            RichPattern::Label(label) => wanted.push(label.to_string()),
            RichPattern::EndOfInput => wanted.push("the end of the text".to_owned()),
            _ => {}
        }
    }
    if next {
        wanted.push("a statement".to_owned());
    }
    wanted.sort();
    wanted.dedup();
    wanted
}

fn listed(words: &[String]) -> String {
    match words {
        [] => "something else".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn cure(found: Option<&Token>, wanted: &[String], before: &[Spanned<Token>]) -> String {
    let is_name = |wanted: &String| {
        let names = ["name", "interface", "device", "machine"];
        names.iter().any(|name| wanted.contains(name))
    };
    match found {
        Some(Token::Keyword(keyword))
            if !keyword.is_first() && *keyword != Keyword::End && wanted.iter().any(is_name) =>
        {
            let text = keyword.text();
            return format!(
                "{text} is a word of the language: as a name it stands in quotes, \"{text}\""
            );
        }
        Some(Token::Word(word)) => {
            let known = Keyword::ALL.iter().map(|keyword| keyword.text());
            let wanted = |text: &&str| {
                wanted
                    .iter()
                    .any(|wanted| wanted == text || wanted == "a statement")
            };
            if let Some(meant) = suggestion(word, known.filter(wanted)) {
                return format!("did you mean {meant}?");
            }
        }
        _ => {}
    }
    let first = before.iter().rev().find_map(|(token, _)| match token {
        Token::Keyword(keyword) if keyword.is_first() => Some(*keyword),
        _ => None,
    });
    form(first).to_owned()
}

/// How a statement is written.
const fn form(first: Option<Keyword>) -> &'static str {
    match first {
        Some(Keyword::Host) => {
            "write HOST user AT machine port interface [ADDRESS address] [PROXY | FOREIGN]"
        }
        Some(Keyword::Network) => "write NETWORK name id",
        Some(Keyword::Vm) => "write VM name address ON machine [device] [IN network] [FIXED]",
        Some(Keyword::Add | Keyword::Delete | Keyword::Link) => {
            "write LINK UDP | TCP | TLS | PLAIN [machine] machine machine [CARRIES network, ...] [FLOOD ALWAYS | NEVER | PORTS]"
        }
        Some(Keyword::Forward) => {
            "write FORWARD EDGE | INTERFACE | FLOOD | DROP machine senders receivers [machine machine | interface] [IN network]"
        }
        _ => "a text is BEGIN, hosts, networks, VMs, ADD or DELETE with links and rules, END",
    }
}
