//! How are values taken out of toml's tree, with everything noted that is wrong with them?
//!
//! A value that cannot be read is reported once and marked as bad; the caller goes on with a
//! filler, so that the rest of the file is looked at too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::Finding;
use crate::model::problem::{Item, Place, Problem};
use crate::model::suggest::suggestion;

/// Collects what is wrong, and where everything is.
#[derive(Default)]
pub(super) struct Reader {
    findings: Vec<Finding>,
    spans: BTreeMap<Place, Range<usize>>,
    bad: BTreeSet<Place>,
}

/// A table of the file: `[agent]`, or one of several `[[link]]`.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) item: Item,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// The value of a key, as it stands in the file.
    pub(super) fn value(self, key: &str) -> Option<&'a DeValue<'a>> {
        self.table.get(key).map(Spanned::get_ref)
    }
}

/// Why a value is refused.
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) cure: String,
}

/// What became of a key.
pub(super) enum Read<T> {
    /// It is not there.
    Missing,
    /// It is there and wrong, which has been reported.
    Bad,
    /// It is there.
    Good(T),
}

impl<T> Read<T> {
    /// The value, or this one where there is none.
    pub(super) fn or(self, default: T) -> T {
        match self {
            Self::Good(value) => value,
            Self::Missing | Self::Bad => default,
        }
    }

    /// The value, if there is one.
    pub(super) fn good(self) -> Option<T> {
        match self {
            Self::Good(value) => Some(value),
            Self::Missing | Self::Bad => None,
        }
    }
}

const SECTIONS: [&str; 8] = [
    "agent", "control", "underlay", "network", "port", "link", "rule", "limits",
];

const fn section_name(item: Item) -> &'static str {
    match item {
        Item::Agent => "agent",
        Item::Control => "control",
        Item::Underlay => "underlay",
        Item::Network(_) => "network",
        Item::Port(_) => "port",
        Item::Link(_) => "link",
        Item::Rule(_) => "rule",
        Item::Limits => "limits",
    }
}

impl Reader {
    /// Reports every section that is none of ours.
    pub(super) fn refuse_unknown_sections(&mut self, document: &DeTable<'_>) {
        for key in document.keys() {
            if !SECTIONS.contains(&key.get_ref().as_ref()) {
                self.unknown_key(key, None, &SECTIONS);
            }
        }
    }

    /// Reports a key that is none of ours, and gives back the one that it may have meant.
    fn unknown_key(
        &mut self,
        key: &Spanned<DeString<'_>>,
        section: Option<&str>,
        known: &[&'static str],
    ) -> Option<&'static str> {
        let name = key.get_ref();
        let meant = suggestion(name, known.iter().copied());
        let cure = match meant {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("one of: {}", known.join(", ")),
        };
        self.findings.push(Finding {
            span: key.span(),
            key: section.map_or_else(|| name.to_string(), |section| format!("{section}.{name}")),
            message: if section.is_some() {
                "unknown key"
            } else {
                "unknown section"
            }
            .to_owned(),
            cure,
            earlier: None,
        });
        meant
    }

    /// The one section of this name, whose keys are these.
    pub(super) fn section<'a>(
        &mut self,
        document: &'a DeTable<'a>,
        item: Item,
        known: &[&'static str],
    ) -> Option<Section<'a>> {
        let name = section_name(item);
        let value = document.get(name)?;
        self.spans.insert(Place::new(item, ""), value.span());
        let DeValue::Table(table) = value.get_ref() else {
            let cure = format!("there is one of it: write [{name}]");
            return self.wrong_section(item, "expected one section", &cure);
        };
        Some(self.enter(item, table, known))
    }

    /// The sections of this name, whose keys are these.
    pub(super) fn sections<'a>(
        &mut self,
        document: &'a DeTable<'a>,
        item: fn(usize) -> Item,
        known: &[&'static str],
    ) -> Vec<Section<'a>> {
        let name = section_name(item(0));
        let several = "expected a list of sections";
        let cure = format!("there can be several of it: write [[{name}]]");
        let Some(value) = document.get(name) else {
            return Vec::new();
        };
        let DeValue::Array(entries) = value.get_ref() else {
            self.spans.insert(Place::new(item(0), ""), value.span());
            return self
                .wrong_section(item(0), several, &cure)
                .into_iter()
                .collect();
        };
        let mut sections = Vec::with_capacity(entries.len());
        // Entries that are no tables are left out, so that places in lists stay those of the
        // configuration.
        for entry in entries.iter() {
            let item = item(sections.len());
            self.spans.insert(Place::new(item, ""), entry.span());
            match entry.get_ref() {
                DeValue::Table(table) => sections.push(self.enter(item, table, known)),
                _ => {
                    self.wrong_section(item, "expected a section", &cure);
                }
            }
        }
        sections
    }

    fn wrong_section<'a>(&mut self, item: Item, message: &str, cure: &str) -> Option<Section<'a>> {
        let wrong = Wrong {
            message: message.to_owned(),
            cure: cure.to_owned(),
        };
        self.report(Place::new(item, ""), wrong);
        None
    }

    fn enter<'a>(
        &mut self,
        item: Item,
        table: &'a DeTable<'a>,
        known: &[&'static str],
    ) -> Section<'a> {
        for key in table
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
        {
            let meant = self.unknown_key(key, Some(section_name(item)), known);
            // What is misspelt is not missing too.
            if let Some(meant) = meant {
                self.bad.insert(Place::new(item, meant));
            }
        }
        Section { item, table }
    }

    /// The value of a key, as `parse` makes it.
    pub(super) fn read<T>(
        &mut self,
        section: Section<'_>,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Read<T> {
        let Some(value) = section.table.get(key) else {
            return Read::Missing;
        };
        let at = Place::new(section.item, key);
        self.spans.insert(at, value.span());
        match parse(value.get_ref()) {
            Ok(value) => Read::Good(value),
            Err(wrong) => {
                self.report(at, wrong);
                Read::Bad
            }
        }
    }

    /// The same, for a key that has to be there; `example` is a value for it.
    pub(super) fn read_required<T>(
        &mut self,
        section: Section<'_>,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let read = self.read(section, key, parse);
        if let Read::Missing = read {
            let message = format!("{key} is missing");
            let cure = format!("add a line such as {key} = {example}");
            self.report_missing(section.item, &[key], Wrong { message, cure });
        }
        read.good()
    }

    /// The elements of a list, each as `parse` makes it; those that cannot be read are left out,
    /// and the list is bad.
    pub(super) fn read_elements<T>(
        &mut self,
        at: Place,
        list: &[Spanned<DeValue<'_>>],
        parse: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let mut elements = Vec::with_capacity(list.len());
        for value in list {
            let at = Place {
                element: Some(elements.len()),
                ..at
            };
            self.spans.insert(at, value.span());
            match parse(value.get_ref()) {
                Ok(element) => elements.push(element),
                Err(wrong) => {
                    self.report(at, wrong);
                    // The next element takes this one's place, and may be fine.
                    self.bad.remove(&at);
                    self.bad.insert(Place {
                        element: None,
                        ..at
                    });
                }
            }
        }
        elements
    }

    /// Reports what is wrong with a value, and marks it as bad.
    pub(super) fn report(&mut self, at: Place, wrong: Wrong) {
        let Wrong { message, cure } = wrong;
        self.push(at, None, message, cure);
        self.bad.insert(at);
    }

    /// Reports that none of these keys is there, unless one of them is there misspelt.
    pub(super) fn report_missing(&mut self, item: Item, keys: &[&'static str], wrong: Wrong) {
        if keys.iter().any(|key| self.is_bad(Place::new(item, key))) {
            return;
        }
        if let Some(first) = keys.first() {
            self.report(Place::new(item, first), wrong);
        }
    }

    /// Marks a value as bad that something else has been reported about.
    pub(super) fn mark_bad(&mut self, at: Place) {
        self.bad.insert(at);
    }

    /// Reports what is wrong with the configuration.
    pub(super) fn report_problem(&mut self, problem: &Problem) {
        let Problem { at, earlier, error } = problem;
        self.push(*at, *earlier, error.to_string(), error.cure());
    }

    fn push(&mut self, at: Place, earlier: Option<Place>, message: String, cure: String) {
        let section = section_name(at.item);
        let key = if at.key.is_empty() {
            section.to_owned()
        } else {
            format!("{section}.{}", at.key)
        };
        let span = self.span(at);
        let earlier = earlier.and_then(|place| self.span(place));
        // What the file does not say is shown where it shows; in the worst case at the top.
        let shown = span.clone().or_else(|| earlier.clone()).unwrap_or(0..0);
        let earlier = earlier.filter(|_| span.is_some());
        self.findings.push(Finding {
            span: shown,
            key,
            message,
            cure,
            earlier,
        });
    }

    /// The bytes of a value, or of the nearest thing around it.
    fn span(&self, at: Place) -> Option<Range<usize>> {
        let around = [
            at,
            Place {
                element: None,
                ..at
            },
            Place::new(at.item, ""),
        ];
        around
            .iter()
            .find_map(|place| self.spans.get(place))
            .cloned()
    }

    /// Where the value of a key begins, if it is there.
    pub(super) fn start(&self, at: Place) -> Option<usize> {
        self.spans.get(&at).map(|span| span.start)
    }

    /// Whether something has been reported about a value. A list is bad where one of its elements
    /// is; its other elements are not.
    pub(super) fn is_bad(&self, at: Place) -> bool {
        self.bad.contains(&at)
    }

    pub(super) fn has_bad(&self, which: impl Fn(&Place) -> bool) -> bool {
        self.bad.iter().any(which)
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}

const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// That a value is of the wrong kind; `example` is one of the right kind.
pub(super) fn other_kind(value: &DeValue<'_>, expected: &str, example: &str) -> Wrong {
    Wrong {
        message: format!("expected {expected}, found {}", kind(value)),
        cure: format!("write it like this: {example}"),
    }
}

/// A text.
pub(super) fn text<'v>(value: &'v DeValue<'_>, example: &str) -> Result<&'v str, Wrong> {
    value
        .as_str()
        .ok_or_else(|| other_kind(value, "a text in quotes", example))
}

/// `true` or `false`.
pub(super) fn truth(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value
        .as_bool()
        .ok_or_else(|| other_kind(value, "true or false, without quotes", "true"))
}

/// A whole number in a range.
pub(super) fn number(value: &DeValue<'_>, range: RangeInclusive<u32>) -> Result<u32, Wrong> {
    let (least, most) = (*range.start(), *range.end());
    let DeValue::Integer(integer) = value else {
        let cure = format!("write a number from {least} to {most}");
        return Err(Wrong {
            cure,
            ..other_kind(value, "a whole number, without quotes", "")
        });
    };
    let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
    let number = number.and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| Wrong {
            message: format!("{integer} is out of range"),
            cure: format!("write a number from {least} to {most}"),
        })
}
