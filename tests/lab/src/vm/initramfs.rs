//! What does a guest find in its root directory?
//!
//! Takes the files of a [`super::image::GuestImage`] and gives an archive in the `newc` format
//! of cpio, as `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel draws
//! it: for every file a header of 110 characters, the name, and the content, each padded to four
//! bytes.

use std::collections::BTreeSet;

/// Kinds and permissions, as in `st_mode`.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DATA: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive under construction. Directories come about with what is in them.
#[derive(Debug, Default)]
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    files: u32,
    directories: BTreeSet<String>,
}

impl Initramfs {
    /// Adds a file that can be executed.
    pub(crate) fn program(self, path: &str, content: &[u8]) -> Self {
        self.with_parents(path)
            .entry(path, PROGRAM, (0, 0), content)
    }

    /// Adds a file that is read.
    pub(crate) fn data(self, path: &str, content: &[u8]) -> Self {
        self.with_parents(path).entry(path, DATA, (0, 0), content)
    }

    /// Adds a character device.
    pub(crate) fn device(self, path: &str, major: u32, minor: u32) -> Self {
        self.with_parents(path)
            .entry(path, CHARACTER_DEVICE, (major, minor), &[])
    }

    /// The archive.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]).bytes
    }

    fn with_parents(mut self, path: &str) -> Self {
        for (end, _) in path.match_indices('/') {
            let parent = path.get(..end).unwrap_or_default();
            if self.directories.insert(parent.to_owned()) {
                self = self.entry(parent, DIRECTORY, (0, 0), &[]);
            }
        }
        self
    }

    fn entry(mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Self {
        self.files += 1;
        // A file too long for the field would need gigabytes of memory in the guest as well.
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        let (device_major, device_minor) = device;
        self.bytes.extend_from_slice(b"070701");
        #[rustfmt::skip]
        let fields = [
            self.files /* inode */, mode, 0 /* user */, 0 /* group */, 1 /* links */, 0 /* time */,
            size, 0, 0 /* device it lies on */, device_major, device_minor, name_size, 0 /* check */,
        ];
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_headers_names_and_contents_padded_to_words() {
        let archive = Initramfs::default().program("bin/sh", b"12345").finish();
        let text = String::from_utf8(archive.clone()).unwrap();
        assert_eq!(archive.len() % 4, 0);
        assert!(text.starts_with("0707010000000100004"), "{text}");
        // 110 of header, 4 of name and its end, padded to 116; then the next header.
        assert_eq!(text.get(116..122), Some("070701"));
        // 110 of header and 7 of name end at 233, the content starts at 236.
        assert_eq!(text.get(236..241), Some("12345"));
        assert!(text.contains("TRAILER!!!"));
    }

    #[test]
    fn each_directory_comes_once_and_before_what_is_in_it() {
        let archive = Initramfs::default()
            .data("a/b/one", b"1")
            .data("a/b/two", b"2")
            .data("a/three", b"3")
            .finish();
        let text = String::from_utf8(archive).unwrap();
        let places = ["a\0", "a/b\0", "a/b/one\0", "a/b/two\0", "a/three\0"];
        let at = places.map(|name| text.find(name));
        assert!(at.is_sorted() && at.iter().all(Option::is_some), "{at:?}");
        assert_eq!(text.matches("a/b\0").count(), 1);
    }
}
