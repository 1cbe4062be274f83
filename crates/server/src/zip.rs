//! A zip archive of a few small texts, stored as they are: the format's frame is all that `compose.zip` needs, so no
//! library for it comes in. Layout after PKWARE's APPNOTE, sections 4.3.7, 4.3.12 and 4.3.16.

use flate2::Crc;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
/// 2.0: what a reader must know to read stored files.
const VERSION: u16 = 20;
/// Names are UTF-8.
const FLAGS: u16 = 1 << 11;
/// 1 January 1980, the first day the format knows: equal texts give equal archives.
const DATE: u16 = 0x21;

/// The archive of these files. Sizes stay far below the 4 GiB at which the format changes.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, bytes) in files {
        let offset = length(&out);
        let about = about(name, bytes);
        put32(&mut out, LOCAL);
        out.extend_from_slice(&about);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(bytes);
        put32(&mut directory, CENTRAL);
        put16(&mut directory, VERSION);
        directory.extend_from_slice(&about);
        // Comment, disk, and attributes: none.
        directory.extend_from_slice(&[0; 10]);
        put32(&mut directory, offset);
        directory.extend_from_slice(name.as_bytes());
    }
    let (offset, n_files) = (length(&out), u16::try_from(files.len()).unwrap_or(u16::MAX));
    out.extend_from_slice(&directory);
    put32(&mut out, END);
    put32(&mut out, 0);
    put16(&mut out, n_files);
    put16(&mut out, n_files);
    put32(&mut out, length(&directory));
    put32(&mut out, offset);
    put16(&mut out, 0);
    out
}

/// What both headers of a file say: from the version to the length of the extra field.
fn about(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(bytes);
    let mut about = Vec::with_capacity(26);
    put16(&mut about, VERSION);
    put16(&mut about, FLAGS);
    // Method "stored", and midnight.
    put32(&mut about, 0);
    put16(&mut about, DATE);
    put32(&mut about, crc.sum());
    put32(&mut about, length(bytes));
    put32(&mut about, length(bytes));
    put16(&mut about, u16::try_from(name.len()).unwrap_or(u16::MAX));
    put16(&mut about, 0);
    about
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_unzip_expects() {
        let bytes = archive(&[("a.yml", b"a: 1\n"), ("b", b"")]);
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(word(0), LOCAL);
        assert_eq!((half(4), half(8), half(26)), (VERSION, 0, 5));
        // CRC-32 of the text, by `printf 'a: 1\n' | gzip -c | tail -c8`.
        assert_eq!((word(14), word(18), word(22)), (0xe323_1969, 5, 5));
        assert_eq!(&bytes[30..40], b"a.ymla: 1\n");
        let end = bytes.len() - 22;
        assert_eq!((word(end), half(end + 8), half(end + 10)), (END, 2, 2));
        let central = word(end + 16) as usize;
        assert_eq!((word(central), word(central + 42)), (CENTRAL, 0));
        assert_eq!(word(end + 12) as usize, end - central);
        let second = central + 46 + 5;
        assert_eq!((word(second), word(second + 42) as usize), (CENTRAL, 40));
        assert_eq!(bytes, archive(&[("a.yml", b"a: 1\n"), ("b", b"")]));
    }
}
