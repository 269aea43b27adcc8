//! How several files travel as one: a strict subset of POSIX ustar (IEEE Std 1003.1-2017, pax, "ustar Interchange Format"),
//! so that `tar` lists and unpacks it.
//!
//! Strict means: a header counts only if it is, byte for byte, the one that [`header`] makes for the same name and size. So
//! there is nothing else in it to interpret: no owners, times, links, paths or extensions. What follows the header is the
//! content, then zeros up to the next block; two blocks of zeros end the file.

/// Bytes of a header; contents are padded to a multiple of it.
pub const BLOCK_BYTES: usize = 512;
/// Most bytes of one content: what eleven octal digits can say.
pub const CONTENT_BYTES_MAX: u64 = 0o77_777_777_777;
/// Longest name that the first field takes; one that is longer is divided at its last `/`.
const NAME_BYTES_MAX: usize = 99;
/// Longest directory of a divided name.
const PREFIX_BYTES_MAX: usize = 154;

/// The header of a regular file, mode 0644, owned by 0:0, of 1970. `None` if it cannot say that name or size.
pub fn header(name: &str, size_bytes: u64) -> Option<[u8; BLOCK_BYTES]> {
    let (prefix, rest) = divide(name)?;
    if size_bytes > CONTENT_BYTES_MAX {
        return None;
    }
    let mut block = [0; BLOCK_BYTES];
    let mut put = |at: usize, bytes: &[u8]| block.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    put(0, rest.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size_bytes:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    put(345, prefix.as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    block.iter_mut().skip(148).zip(sum.bytes()).for_each(|(to, from)| *to = from);
    Some(block)
}

/// The name and size that a header says; `None` unless it is exactly the one that [`header`] makes of them.
pub fn read_header(block: &[u8; BLOCK_BYTES]) -> Option<(String, u64)> {
    let text = |from: usize, to: usize| str::from_utf8(block.get(from..to)?.split(|byte| *byte == 0).next()?).ok();
    let (name, prefix) = (text(0, 100)?, text(345, 500)?);
    let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    let size_bytes = u64::from_str_radix(str::from_utf8(block.get(124..135)?).ok()?, 8).ok()?;
    (header(&name, size_bytes)? == *block).then_some((name, size_bytes))
}

/// Zeros after a content of `size_bytes`; below [`BLOCK_BYTES`].
pub fn padding(size_bytes: u64) -> u64 {
    size_bytes.next_multiple_of(BLOCK_BYTES as u64) - size_bytes
}

/// The two fields of a name: the directory, if it is too long for one, and the rest.
fn divide(name: &str) -> Option<(&str, &str)> {
    let fits = |text: &str, max| !text.is_empty() && text.len() <= max && text.is_ascii() && !text.contains('\0');
    if fits(name, NAME_BYTES_MAX) {
        return Some(("", name));
    }
    name.rsplit_once('/').filter(|(prefix, rest)| fits(prefix, PREFIX_BYTES_MAX) && fits(rest, NAME_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_it_was_made_of_and_no_bit_may_differ() {
        let long = format!("targets/{}/1.0.0/{}.manifest.json", "a".repeat(63), "0".repeat(64));
        for (name, size_bytes) in [("manifest.json", 0), ("a/b", CONTENT_BYTES_MAX), (&long, 513)] {
            let block = header(name, size_bytes).unwrap();
            assert_eq!(read_header(&block), Some((name.to_owned(), size_bytes)));
            for at in 0..BLOCK_BYTES {
                let mut bad = block;
                bad[at] ^= 1;
                assert_eq!(read_header(&bad), None, "{name}: byte {at}");
            }
        }
    }

    #[test]
    fn what_a_header_cannot_say_has_none() {
        for name in
            ["", "ä", "a\0b", &"n".repeat(100), &format!("{}/a", "p".repeat(155)), &format!("a/{}", "n".repeat(100))]
        {
            assert_eq!(header(name, 0), None, "{name:?}");
        }
        assert_eq!(header("a", CONTENT_BYTES_MAX + 1), None);
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
