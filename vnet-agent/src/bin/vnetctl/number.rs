//! How are numbers written for people?

/// With thousands apart: `1,234,567`.
pub fn exact(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// At most six characters: exact below 100,000, then three digits and a unit (`1.23M`).
pub fn short(number: u64) -> String {
    if number < 100_000 {
        return exact(number);
    }
    let (digits, unit) = scaled(number);
    format!("{digits}{unit}")
}

/// Bytes in decimal units, three digits: `999 B`, `1.23 kB`.
pub fn bytes(number: u64) -> String {
    let (digits, unit) = scaled(number);
    format!("{digits} {unit}B")
}

/// Three digits, cut and not rounded, so that no unit ever shows a thousand.
fn scaled(number: u64) -> (String, &'static str) {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let (mut divisor, mut power) = (1u64, 0);
    while number / divisor >= 1000 {
        divisor *= 1000;
        power += 1;
    }
    let whole = number / divisor;
    let thousandths = if divisor == 1 {
        0
    } else {
        number % divisor / (divisor / 1000)
    };
    let digits = match (power, whole) {
        (0, _) | (_, 100..) => whole.to_string(),
        (_, 10..) => format!("{whole}.{}", thousandths / 100),
        _ => format!("{whole}.{:02}", thousandths / 10),
    };
    (digits, UNITS.get(power).copied().unwrap_or("?"))
}

/// A time in its two largest units: `3 h 12 min`.
pub fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let parts: Vec<String> = units
        .iter()
        .map(|&(size, name)| {
            let count = rest / size;
            rest %= size;
            (count, name)
        })
        .skip_while(|&(count, _)| count == 0)
        .take(2)
        .filter(|&(count, _)| count > 0)
        .map(|(count, name)| format!("{} {name}", exact(count)))
        .collect();
    if parts.is_empty() {
        "0 s".into()
    } else {
        parts.join(" ")
    }
}

/// With the word it counts: `1 link`, `2 links`.
pub fn counted(number: impl Into<u64>, word: &str) -> String {
    let number = number.into();
    format!(
        "{} {word}{}",
        exact(number),
        if number == 1 { "" } else { "s" }
    )
}

/// An Ethernet type, as a number.
pub fn ethertype(text: &str) -> Result<u16, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "an Ethernet type is a number from 0 to 65535, such as 0x0800".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_written() {
        assert_eq!(ethertype("0x86dd"), Ok(0x86dd));
        assert_eq!(ethertype("2048"), Ok(0x0800));
        assert!(ethertype("ip").is_err() && ethertype("65536").is_err());
    }

    #[test]
    fn numbers_read_well_at_every_size() {
        for (number, as_exact, as_short, as_bytes) in [
            (0, "0", "0", "0 B"),
            (999, "999", "999", "999 B"),
            (1000, "1,000", "1,000", "1.00 kB"),
            (99_999, "99,999", "99,999", "99.9 kB"),
            (100_000, "100,000", "100k", "100 kB"),
            (999_999, "999,999", "999k", "999 kB"),
            (1_234_567, "1,234,567", "1.23M", "1.23 MB"),
            (12_345_678, "12,345,678", "12.3M", "12.3 MB"),
            (u64::MAX, "18,446,744,073,709,551,615", "18.4E", "18.4 EB"),
        ] {
            assert_eq!(exact(number), as_exact);
            assert_eq!(short(number), as_short);
            assert_eq!(bytes(number), as_bytes);
        }
    }

    #[test]
    fn times_have_their_two_largest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3661, "1 h 1 min"),
            (3605, "1 h"),
            (90_000, "1 d 1 h"),
            (86_400_000, "1,000 d"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(counted(1u32, "link"), "1 link");
        assert_eq!(counted(0u32, "link"), "0 links");
    }
}
