//! Where do the kernel's structures keep their fields?
//!
//! Input: the kernel's own type information (BTF, `Documentation/bpf/btf.rst`). Output: byte
//! offsets of a few fields, which the counting programs need. Read by hand, a screen of code:
//! the crates that do it build a graph of all 100,000 types first.

use std::collections::BTreeMap;

/// The bytes of a header and of a type record.
const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 12;
const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

/// The structures of a kernel, by name.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

/// A member of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the structure's start.
    pub offset: u32,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

impl<'a> Btf<'a> {
    /// The type information in these bytes, or nothing where they are none.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let magic = u16::from_le_bytes(bytes.get(0..2)?.try_into().ok()?);
        if magic != MAGIC {
            return None;
        }
        let header = usize::try_from(word(bytes, 4)?).ok()?;
        if header < HEADER_BYTES {
            return None;
        }
        let section = |offset_at, length_at| {
            let start = header.checked_add(usize::try_from(word(bytes, offset_at)?).ok()?)?;
            let end = start.checked_add(usize::try_from(word(bytes, length_at)?).ok()?)?;
            bytes.get(start..end)
        };
        Some(Self {
            types: section(8, 12)?,
            strings: section(16, 20)?,
        })
    }

    /// Where each of the wanted `(structure, member)` pairs lies. A pair that does not exist is
    /// left out.
    pub fn members<'w>(
        &self,
        wanted: &[(&'w str, &'w str)],
    ) -> BTreeMap<(&'w str, &'w str), Member> {
        let mut found = BTreeMap::new();
        let mut at = 0;
        while let Some(next) = self.visit(at, wanted, &mut found) {
            at = next;
        }
        found
    }

    /// Reads the record at this offset; returns where the next one begins.
    fn visit<'w>(
        &self,
        at: usize,
        wanted: &[(&'w str, &'w str)],
        found: &mut BTreeMap<(&'w str, &'w str), Member>,
    ) -> Option<usize> {
        let name = word(self.types, at)?;
        let info = word(self.types, at.checked_add(4)?)?;
        let count = usize::try_from(info & 0xffff).ok()?;
        let kind = (info >> 24) & 0x1f;
        let body = at.checked_add(RECORD_BYTES)?;
        if kind == KIND_STRUCT {
            let is_bit_sized = info >> 31 == 1;
            let structure = self.string(name);
            for &(of, member) in wanted
                .iter()
                .filter(|(of, _)| structure == Some(of.as_bytes()))
            {
                if let Some(offset) = self.member(body, count, is_bit_sized, member) {
                    found.entry((of, member)).or_insert(Member { offset });
                }
            }
        }
        body.checked_add(extra_bytes(kind, count)?)
    }

    fn member(&self, body: usize, count: usize, is_bit_sized: bool, name: &str) -> Option<u32> {
        (0..count).find_map(|index| {
            let at = body.checked_add(index.checked_mul(12)?)?;
            if self.string(word(self.types, at)?) != Some(name.as_bytes()) {
                return None;
            }
            let bits = word(self.types, at.checked_add(8)?)?;
            Some(
                if is_bit_sized {
                    bits & 0x00ff_ffff
                } else {
                    bits
                } / 8,
            )
        })
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(usize::try_from(offset).ok()?..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        rest.get(..end)
    }
}

/// Bytes that follow a record of this kind (`include/uapi/linux/btf.h`), or nothing for a kind
/// that is not known: then the rest cannot be read.
fn extra_bytes(kind: u32, count: usize) -> Option<usize> {
    match kind {
        // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
        0 | 2 | 7..=12 | 16 | 18 => Some(0),
        // Integer, variable's linkage, declaration tag.
        1 | 14 | 17 => Some(4),
        // Array.
        3 => Some(12),
        KIND_STRUCT | KIND_UNION => count.checked_mul(12),
        // Enumeration, function prototype.
        6 | 13 => count.checked_mul(8),
        // Data section, 64-bit enumeration.
        15 | 19 => count.checked_mul(12),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Btf;

    /// One structure `net_device { a at bit 0; ifindex at bit 1792 }` after an integer.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0net_device\0a\0ifindex\0";
        let mut types: Vec<u32> = vec![1, 1 << 24, 4, 0x20];
        types.extend([5, (4 << 24) | 2, 300, 16, 1, 0, 18, 1, 1792]);
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let types_bytes = u32::try_from(types.len()).unwrap();
        let strings_bytes = u32::try_from(strings.len()).unwrap();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types_bytes, types_bytes, strings_bytes] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_member_is_found_at_its_byte() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        let found = btf.members(&[("net_device", "ifindex"), ("net_device", "missing")]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[&("net_device", "ifindex")].offset, 224);
    }

    #[test]
    fn truncated_type_information_is_read_as_far_as_it_goes() {
        let bytes = sample();
        for length in 0..bytes.len() {
            if let Some(btf) = Btf::parse(&bytes[..length]) {
                btf.members(&[("net_device", "ifindex")]);
            }
        }
    }
}
