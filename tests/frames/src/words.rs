//! How is one layer of a frame written? A kind, then `from -> to`, flags and `name=value`, in any
//! order: `ipv4 host_two -> host_one ttl=63 df`.
//!
//! A builder takes the words that it knows; what is left over at the end is an error, so that a
//! misspelt word never means nothing.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// The words of one layer that nobody has taken yet.
#[derive(Debug)]
pub struct Words<'a> {
    line: &'a str,
    /// The first word.
    pub kind: &'a str,
    pair: Option<(&'a str, &'a str)>,
    flags: Vec<&'a str>,
    values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    /// The words of this line.
    ///
    /// # Errors
    ///
    /// It is empty, or says a thing twice.
    pub fn of(line: &'a str) -> Result<Self> {
        let mut rest = line.split_whitespace().peekable();
        let kind = rest.next().context("an empty layer")?;
        let mut words = Self {
            line,
            kind,
            pair: None,
            flags: Vec::new(),
            values: BTreeMap::new(),
        };
        while let Some(word) = rest.next() {
            if rest.next_if_eq(&"->").is_some() {
                let to = rest.next().context("`->` leads nowhere")?;
                ensure!(words.pair.is_none(), "two `->` in `{line}`");
                words.pair = Some((word, to));
            } else if let Some((name, value)) = word.split_once('=') {
                let earlier = words.values.insert(name, value);
                ensure!(earlier.is_none(), "two `{name}=` in `{line}`");
            } else {
                words.flags.push(word);
            }
        }
        Ok(words)
    }

    /// Both sides of `from -> to`.
    ///
    /// # Errors
    ///
    /// There are none.
    pub fn pair(&mut self) -> Result<(&'a str, &'a str)> {
        self.pair
            .take()
            .with_context(|| format!("`{}` needs `from -> to`", self.line))
    }

    /// Whether this flag is there.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.flags.len();
        self.flags.retain(|flag| *flag != name);
        self.flags.len() < before
    }

    /// The next word without a name.
    pub fn next_plain(&mut self) -> Option<&'a str> {
        (!self.flags.is_empty()).then(|| self.flags.remove(0))
    }

    /// The value of this name.
    pub fn value(&mut self, name: &str) -> Option<&'a str> {
        self.values.remove(name)
    }

    /// A number, or what it is where nothing is said.
    ///
    /// # Errors
    ///
    /// It is no number.
    pub fn number<N: TryFrom<i64>>(&mut self, name: &str, otherwise: N) -> Result<N> {
        match self.value(name) {
            Some(text) => narrow(number(text)?),
            None => Ok(otherwise),
        }
    }

    /// A number that has a right value, which `+4` and `-4` lie about and `4` replaces.
    ///
    /// # Errors
    ///
    /// It is no number.
    pub fn lie<N: TryFrom<i64>>(&mut self, name: &str, truth: usize) -> Result<N> {
        let truth = i64::try_from(truth)?;
        let told = match self.value(name) {
            Some(text) if text.starts_with('+') => truth + number(&text[1..])?,
            Some(text) if text.starts_with('-') => truth - number(&text[1..])?,
            Some(text) => number(text)?,
            None => truth,
        };
        narrow(told)
    }

    /// Says that everything was taken.
    ///
    /// # Errors
    ///
    /// It was not.
    pub fn done(self) -> Result<()> {
        let left: Vec<&str> = self
            .flags
            .into_iter()
            .chain(self.values.into_keys())
            .collect();
        if !left.is_empty() || self.pair.is_some() {
            bail!("`{}`: what is {left:?} to `{}`?", self.line, self.kind);
        }
        Ok(())
    }
}

fn narrow<N: TryFrom<i64>>(number: i64) -> Result<N> {
    N::try_from(number)
        .ok()
        .with_context(|| format!("{number} does not fit there"))
}

/// The number that this text is, decimal or `0x…`.
///
/// # Errors
///
/// It is none.
pub fn number(text: &str) -> Result<i64> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.with_context(|| format!("`{text}` is no number"))
}

#[cfg(test)]
mod tests {
    use super::Words;

    #[test]
    fn every_word_is_taken_or_it_is_an_error() {
        let mut words = Words::of("ipv4 a -> b ttl=0x10 df length=-2").unwrap();
        assert_eq!(words.kind, "ipv4");
        assert_eq!(words.pair().unwrap(), ("a", "b"));
        assert_eq!(words.number("ttl", 64u8).unwrap(), 16);
        assert!(words.flag("df") && !words.flag("mf"));
        assert_eq!(words.lie::<u16>("length", 30).unwrap(), 28);
        words.done().unwrap();

        let mut words = Words::of("ipv4 a -> b tll=3").unwrap();
        words.pair().unwrap();
        assert!(words.done().unwrap_err().to_string().contains("tll"));
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error() {
        let mut words = Words::of("ipv4 ttl=256").unwrap();
        assert!(words.number("ttl", 0u8).is_err());
    }
}
