//! How does one input become another?
//!
//! By bytes, for what machines write: values at their edges, pieces missing, doubled, or taken from
//! other inputs. By words and lines, for what people write and for JSON: what is still made of whole
//! words gets past the first look.

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Chance, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Chance(TestRng);

impl Chance {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// A number below this one; 0 below 0.
    pub fn below(&mut self, most: usize) -> usize {
        let number = self.0.next_u64();
        usize::try_from(number % (most.max(1) as u64)).unwrap_or(0)
    }

    /// One of these.
    ///
    /// # Panics
    ///
    /// There are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.0.next_u32() as u8).collect()
    }
}

/// What inputs are made from.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// Other inputs.
    pub inputs: &'a [Vec<u8>],
    /// Words that mean something.
    pub words: &'a [Vec<u8>],
    /// Whether inputs are made of words.
    pub is_text: bool,
    /// How long an input may become.
    pub bytes_max: usize,
}

/// Another input.
pub fn another(chance: &mut Chance, material: &Material<'_>) -> Vec<u8> {
    if chance.below(50) == 0 {
        let count = chance.below(material.bytes_max.min(200));
        return chance.bytes(count);
    }
    let mut input = chance.pick(material.inputs).clone();
    let changes = 1 + chance.below(3) * chance.below(2);
    for _ in 0..changes {
        let by_words = material.is_text && chance.below(8) > 0;
        match by_words {
            true => change_words(chance, material, &mut input),
            false => change_bytes(chance, material, &mut input),
        }
    }
    input.truncate(material.bytes_max);
    input
}

/// A stretch of the input.
fn stretch(chance: &mut Chance, bytes: &[u8], longest: usize) -> std::ops::Range<usize> {
    let start = chance.below(bytes.len() + 1);
    let length = chance.below(longest.min(bytes.len() - start) + 1);
    start..start + length
}

fn change_bytes(chance: &mut Chance, material: &Material<'_>, input: &mut Vec<u8>) {
    // What decides stands in front.
    let most = match chance.below(2) {
        0 => input.len().min(100),
        _ => input.len(),
    };
    let at = chance.below(most);
    match chance.below(10) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = chance.bytes(1)[0];
            }
        }
        2 => {
            let step = *chance.pick(&[1u8, 2, 4, 252, 254, 255]);
            if let Some(byte) = input.get_mut(at) {
                *byte = byte.wrapping_add(step);
            }
        }
        3 => {
            let number =
                *chance.pick(&[0u32, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, u32::MAX]);
            let width = *chance.pick(&[1usize, 2, 4]);
            let written = &number.to_be_bytes()[4 - width..];
            for (place, byte) in input.iter_mut().skip(at).zip(written) {
                *place = *byte;
            }
        }
        4 => {
            input.drain(stretch(chance, input, 24));
        }
        5 => {
            let count = 1 + chance.below(24);
            let new = chance.bytes(count);
            input.splice(at..at, new);
        }
        6 => {
            let from = stretch(chance, input, 64);
            let piece = input[from].to_vec();
            input.splice(at..at, piece);
        }
        7 => input.truncate(at),
        8 => {
            let other = chance.pick(material.inputs);
            let piece = other[stretch(chance, other, 200)].to_vec();
            let over = stretch(chance, input, piece.len());
            input.splice(over, piece);
        }
        _ => {
            if !material.words.is_empty() {
                let word = chance.pick(material.words).clone();
                input.splice(at..at, word);
            }
        }
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':') || byte >= 0x80
}

/// Where the words are.
fn words(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, &byte) in bytes.iter().enumerate() {
        match (is_of_word(byte), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    found.extend(start.map(|from| from..bytes.len()));
    found
}

/// Where the lines are, their ends included.
fn lines(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    let mut found = Vec::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        found.push(start..start + line.len());
        start += line.len();
    }
    found
}

const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "255",
    "256",
    "65535",
    "65536",
    "16777215",
    "16777216",
    "4294967296",
    "18446744073709551615",
    "1e99",
];
const ODDITIES: [&str; 14] = [
    "\"",
    "'",
    "\\",
    ",",
    "#",
    "\r\n",
    "\t",
    "\u{0}",
    "\u{1b}[2J",
    "ä",
    "\u{202e}",
    "🦀",
    "\u{feff}",
    "=",
];

fn change_words(chance: &mut Chance, material: &Material<'_>, input: &mut Vec<u8>) {
    let words = words(input);
    let lines = lines(input);
    if words.is_empty() || lines.is_empty() {
        return change_bytes(chance, material, input);
    }
    let word = chance.pick(&words).clone();
    let line = chance.pick(&lines).clone();
    match chance.below(12) {
        0..=2 => {
            let other = chance.pick(&words).clone();
            let other = input[other].to_vec();
            input.splice(word, other);
        }
        3 | 4 if !material.words.is_empty() => {
            let other = chance.pick(material.words).clone();
            input.splice(word, other);
        }
        5 => {
            let number = *chance.pick(&NUMBERS);
            input.splice(word, number.bytes());
        }
        6 => {
            input.drain(word);
        }
        7 => {
            input.drain(line);
        }
        8 => {
            let times = 1 + chance.below(3) * chance.below(12);
            let again = input[line.clone()].repeat(times);
            let at = chance.pick(&lines).start;
            input.splice(at..at, again);
        }
        9 => {
            let other = chance.pick(material.inputs);
            let theirs = self::lines(other);
            if !theirs.is_empty() {
                let taken = other[chance.pick(&theirs).clone()].to_vec();
                input.splice(line.start..line.start, taken);
            }
        }
        10 => {
            let oddity = *chance.pick(&ODDITIES);
            let at = word.start + chance.below(word.len() + 1);
            input.splice(at..at, oddity.bytes());
        }
        _ => {
            let times = 1 + chance.below(2) * chance.below(300);
            let longer = input[word.clone()].repeat(times);
            input.splice(word, longer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let inputs = [b"one two\nthree".to_vec(), vec![1, 2, 3]];
        let words = [b"four".to_vec()];
        let material = Material {
            inputs: &inputs,
            words: &words,
            is_text: true,
            bytes_max: 100,
        };
        let series = |seed| {
            let mut chance = Chance::new(seed);
            let made: Vec<_> = (0..500).map(|_| another(&mut chance, &material)).collect();
            made
        };
        assert_eq!(series(1), series(1));
        assert_ne!(series(1), series(2));
        assert!(series(1).iter().all(|input| input.len() <= 100));
    }
}
