//! What does the line say, word by word?
//!
//! Input: the line. Output: the shape, the names in it with their places, and who opens connections; what
//! machines they mean is asked by [`super::plan`].

use std::collections::BTreeSet;
use std::ops::Range;

use super::super::fault::Finding;
use crate::model::suggest::suggestion;
use crate::model::topology::LinkKind;

/// Which links a set of machines has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Star,
    Ring,
    Mesh,
    Tree { fanout: usize },
    Bus,
}

/// A word of the line, and where it stands.
pub(super) type Word<'l> = (&'l str, Range<usize>);

/// The shape and the names, as they are written.
pub(super) struct Wish<'l> {
    pub(super) shape: Shape,
    pub(super) names: Vec<Word<'l>>,
    /// Who opens connections, and of what kind: machines behind a firewall that lets nothing else pass.
    pub(super) openers: Vec<(LinkKind, Word<'l>)>,
    pub(super) whole: Range<usize>,
}

/// How many machines one line may name.
const NAMES_MAX: usize = 1000;

const SHAPES: [&str; 6] = ["star", "ring", "mesh", "all-to-all", "tree", "bus"];
pub(super) const EXAMPLES: &str = "write such as: star around proxy of a, b; ring of a, b, c; full mesh over a, b, c; \
     tree of a, b, c fanout 2; bus of a, b, c";

/// Takes the line apart.
pub(super) fn wish(line: &str) -> Result<Wish<'_>, Finding> {
    let words = words(line);
    let mut waiting = words.into_iter().peekable();
    waiting.next_if(|(word, _)| *word == "full");
    let Some((word, span)) = waiting.next() else {
        return Err(Finding::new(0..0, "nothing is wanted", EXAMPLES));
    };
    let mut shape = shape(word, span)?;
    let mut names: Vec<Word<'_>> = Vec::new();
    let mut openers = Vec::new();
    let mut opened = None;
    while let Some((word, span)) = waiting.next() {
        match (word, opened) {
            ("of" | "over" | "around" | "and" | "from", _) => {}
            ("tls", _) => opened = Some(LinkKind::Tls),
            ("tcp", _) => opened = Some(LinkKind::Tcp),
            ("fanout", _) => shape = fanout(shape, span, waiting.next())?,
            (name, Some(kind)) => openers.push((kind, (name, span))),
            (name, None) => names.push((name, span)),
        }
    }
    let whole = 0..line.len();
    enough(shape, &names, &whole)?;
    if opened.is_some() && openers.is_empty() {
        let cure = "write who opens the connections: tls from c";
        return Err(Finding::new(whole, "nobody opens the connections", cure));
    }
    Ok(Wish {
        shape,
        names,
        openers,
        whole,
    })
}

fn shape(word: &str, span: Range<usize>) -> Result<Shape, Finding> {
    Ok(match word {
        "star" => Shape::Star,
        "ring" => Shape::Ring,
        "mesh" | "all-to-all" => Shape::Mesh,
        "tree" => Shape::Tree { fanout: 2 },
        "bus" => Shape::Bus,
        other => {
            let meant = suggestion(other, SHAPES).map(|meant| format!("did you mean {meant}?"));
            let message = format!("{other:?} is no shape");
            let cure = meant.unwrap_or(EXAMPLES.to_owned());
            return Err(Finding::new(span, message, cure));
        }
    })
}

fn fanout(shape: Shape, span: Range<usize>, number: Option<Word<'_>>) -> Result<Shape, Finding> {
    let many = number.as_ref().and_then(|(number, _)| number.parse().ok());
    match (many, shape) {
        (Some(fanout @ 1..), Shape::Tree { .. }) => Ok(Shape::Tree { fanout }),
        (_, Shape::Tree { .. }) => {
            let at = number.map_or(span, |(_, span)| span);
            let cure = "write how many branches each machine has: fanout 2";
            Err(Finding::new(at, "this is no fanout", cure))
        }
        _ => {
            let message = format!("a {} has no fanout", shape.word());
            Err(Finding::new(span, message, "take it out"))
        }
    }
}

fn words(line: &str) -> Vec<Word<'_>> {
    let is_between = |c: char| c.is_whitespace() || c == ',';
    let mut words = Vec::new();
    let mut start = 0_usize;
    for word in line.split(is_between) {
        if !word.is_empty() {
            words.push((word, start..start.saturating_add(word.len())));
        }
        // What separates words is one character, which may have several bytes.
        let end = start.saturating_add(word.len());
        let rest = line.get(end..).unwrap_or_default();
        start = end.saturating_add(rest.chars().next().map_or(0, char::len_utf8));
    }
    words
}

fn enough(shape: Shape, names: &[Word<'_>], whole: &Range<usize>) -> Result<(), Finding> {
    let least = match shape {
        Shape::Star => 1,
        Shape::Ring => 3,
        Shape::Mesh | Shape::Tree { .. } | Shape::Bus => 2,
    };
    if names.len() < least {
        let message = format!("a {} takes at least {least} names", shape.word());
        return Err(Finding::new(whole.clone(), message, EXAMPLES));
    }
    if names.len() > NAMES_MAX {
        let message = format!("{} names are too many", names.len());
        let cure = format!("name at most {NAMES_MAX}");
        return Err(Finding::new(whole.clone(), message, cure));
    }
    let mut seen = BTreeSet::new();
    for (name, span) in names {
        if !seen.insert(name) {
            let message = format!("{name} is named twice");
            return Err(Finding::new(span.clone(), message, "name it once"));
        }
    }
    Ok(())
}

impl Shape {
    const fn word(self) -> &'static str {
        match self {
            Self::Star => "star",
            Self::Ring => "ring",
            Self::Mesh => "mesh",
            Self::Tree { .. } => "tree",
            Self::Bus => "bus",
        }
    }
}
