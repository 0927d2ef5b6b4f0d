//! Which words does a text consist of?
//!
//! Nothing is refused here: what is no word becomes a token that no statement takes, so that the
//! parser says where it stands and what was expected there.

use std::fmt;

use chumsky::prelude::*;
use vnet_common::addr::Mac;

/// A token and the bytes that it is made of.
pub(super) type Spanned<T> = (T, SimpleSpan);

/// A word of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// One of the language's own.
    Keyword(Keyword),
    /// A name or a number.
    Word(String),
    /// A name in quotes, for those that are no words.
    Quoted(String),
    /// An Ethernet address.
    Mac(Mac),
    Comma,
    /// What follows a `#`, without it.
    Comment(String),
    /// An opening quote that is never closed.
    Unclosed,
    /// A character that nothing is made of.
    Stray(char),
}

macro_rules! keywords {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// The words of the language.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Keyword { $($name),+ }

        impl Keyword {
            pub(super) const ALL: &[Self] = &[$(Self::$name),+];

            pub(super) const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

keywords! {
    Begin = "BEGIN", End = "END",
    Host = "HOST", At = "AT", Address = "ADDRESS", Proxy = "PROXY", Foreign = "FOREIGN",
    Network = "NETWORK", Vm = "VM", On = "ON", In = "IN", Fixed = "FIXED",
    Add = "ADD", Delete = "DELETE",
    Link = "LINK", Tcp = "TCP", Udp = "UDP", Tls = "TLS", Plain = "PLAIN",
    Carries = "CARRIES", Flood = "FLOOD", Always = "ALWAYS", Never = "NEVER", Ports = "PORTS",
    Forward = "FORWARD", Edge = "EDGE", Interface = "INTERFACE", Drop = "DROP",
    Any = "ANY", Not = "NOT", None = "NONE",
}

impl Keyword {
    /// Whether a statement begins with it.
    pub(super) const fn is_first(self) -> bool {
        matches!(
            self,
            Self::Host
                | Self::Network
                | Self::Vm
                | Self::Add
                | Self::Delete
                | Self::Link
                | Self::Forward
        )
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyword(keyword) => f.write_str(keyword.text()),
            Self::Word(word) => f.write_str(word),
            Self::Quoted(name) => write!(f, "{name:?}"),
            Self::Mac(mac) => mac.fmt(f),
            Self::Comma => f.write_str("a comma"),
            Self::Comment(_) => f.write_str("a comment"),
            Self::Unclosed => f.write_str("a quote that is not closed in its line"),
            Self::Stray(c) => write!(f, "{c:?}"),
        }
    }
}

/// The tokens of a text, in order.
pub(super) fn tokens(text: &str) -> Vec<Spanned<Token>> {
    lexer().parse(text).into_output().unwrap_or_default()
}

/// Whether a name may stand in a text as it is, without quotes.
pub(super) fn is_bare(name: &str) -> bool {
    let whole = |(token, span): &Spanned<Token>| {
        matches!(token, Token::Word(word) if word == name) && span.into_range() == (0..name.len())
    };
    matches!(tokens(name).as_slice(), [only] if whole(only))
}

fn is_in_word(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | ',')
}

fn lexer<'t>() -> impl Parser<'t, &'t str, Vec<Spanned<Token>>> {
    let in_word = any().filter(|&c: &char| is_in_word(c));
    let blank = one_of(" \t").repeated();
    let pair = any().filter(char::is_ascii_hexdigit).repeated().exactly(2);
    let mac = pair
        .separated_by(blank.then(one_of(":-")).then(blank))
        .exactly(6)
        .to_slice()
        .then_ignore(in_word.not())
        .filter(|text: &&str| mac_of(text).is_some())
        .map(|text: &str| mac_of(text).map_or(Token::Comma, Token::Mac));
    let word = in_word
        .repeated()
        .at_least(1)
        .to_slice()
        .map(|word: &str| keyword(word).unwrap_or_else(|| Token::Word(word.to_owned())));
    let escaped = just('\\').ignore_then(one_of("\\\""));
    let quoted = none_of("\"\\\n")
        .or(escaped)
        .repeated()
        .collect::<String>()
        .delimited_by(just('"'), just('"'))
        .map(Token::Quoted);
    let rest = any().filter(|&c: &char| c != '\n').repeated().to_slice();
    let comment = just('#')
        .ignore_then(rest)
        .map(|text: &str| Token::Comment(text.trim_end().to_owned()));
    let unclosed = just('"').then(rest).to(Token::Unclosed);
    let token = choice((
        comment,
        just(',').to(Token::Comma),
        mac,
        word,
        quoted,
        unclosed,
        any().map(Token::Stray),
    ));
    let space = any().filter(|c: &char| c.is_whitespace()).repeated();
    token
        .map_with(|token, extra| (token, extra.span()))
        .padded_by(space)
        .repeated()
        .collect()
        .then_ignore(end())
}

fn mac_of(text: &str) -> Option<Mac> {
    let tight: String = text.chars().filter(|c| !matches!(c, ' ' | '\t')).collect();
    tight.parse().ok()
}

fn keyword(word: &str) -> Option<Token> {
    let known = Keyword::ALL.iter().find(|keyword| keyword.text() == word);
    known.copied().map(Token::Keyword)
}
