//! Which known name did somebody mean who wrote an unknown one?

/// Longer names are compared with nothing: nobody mistypes sixty-four characters.
const NAME_CHARS_MAX: usize = 63;

/// The closest of the known names, if it is close enough to be a slip of the keyboard: at most a
/// third of the characters differ (one, in short names).
pub fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: Vec<char> = wrong.chars().take(NAME_CHARS_MAX + 1).collect();
    let allowed = (wrong.len() / 3).max(1);
    if wrong.is_empty() || wrong.len() > NAME_CHARS_MAX {
        return None;
    }
    known
        .into_iter()
        .filter(|name| name.chars().count().abs_diff(wrong.len()) <= allowed)
        .map(|name| (distance(&wrong, name), name))
        .filter(|&(distance, _)| distance <= allowed)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// How many characters must be inserted, removed, replaced or exchanged with their neighbour
/// (optimal string alignment); case does not count.
fn distance(a: &[char], b: &str) -> usize {
    let fold = |c: char| c.to_ascii_lowercase();
    let a: Vec<char> = a.iter().copied().map(fold).collect();
    let b: Vec<char> = b.chars().map(fold).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (row, &left) in a.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, &above) in b.iter().enumerate() {
            let replaced = last[column] + usize::from(left != above);
            let mut least = replaced.min(last[column + 1] + 1).min(line[column] + 1);
            if row > 0 && column > 0 && left == b[column - 1] && a[row - 1] == above {
                least = least.min(before[column - 1] + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut last, line);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["to-two", "to-three", "proxy"];
        assert_eq!(suggestion("to-tow", known), Some("to-two"));
        assert_eq!(suggestion("To-Two", known), Some("to-two"));
        assert_eq!(suggestion("prxy", known), Some("proxy"));
        assert_eq!(suggestion("green", known), None);
        assert_eq!(suggestion("", known), None);
        assert_eq!(suggestion(&"x".repeat(100_000), known), None);
    }
}
