//! The form in which ECDSA and RSA keys stand in metadata: `SubjectPublicKeyInfo` (RFC 5280 section 4.1) as PEM (RFC 7468
//! section 13). Just enough of DER to take these two apart; whether the numbers in them make sense is ring's to say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::limits::KEY_PEM_BYTES_MAX;

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// Base64 digits in a line (RFC 7468 section 2).
const LINE: usize = 64;

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// Everything before the point of a P-256 key, whose length never varies: SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 },
/// BIT STRING without unused bits } (RFC 5480 section 2).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// SEQUENCE { rsaEncryption, NULL } (RFC 3279 section 2.3.1).
const RSA: [u8; 15] = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The uncompressed point of a P-256 key in PEM.
pub fn p256(pem: &str) -> Option<[u8; 65]> {
    from_pem(pem)?.strip_prefix(&P256)?.try_into().ok()
}

/// The `RSAPublicKey` of an RSA key in PEM.
pub fn rsa(pem: &str) -> Option<Vec<u8>> {
    let der = from_pem(pem)?;
    let bits = whole(SEQUENCE, &der)?.strip_prefix(&RSA)?;
    // No unused bits at the end.
    whole(BIT_STRING, bits)?.strip_prefix(&[0]).map(<[u8]>::to_vec)
}

pub fn p256_to_pem(point: &[u8; 65]) -> String {
    to_pem(&[P256.as_slice(), point].concat())
}

pub fn rsa_to_pem(key: &[u8]) -> String {
    let bits = element(BIT_STRING, &[&[0], key].concat());
    to_pem(&element(SEQUENCE, &[RSA.as_slice(), &bits].concat()))
}

fn from_pem(pem: &str) -> Option<Vec<u8>> {
    if pem.len() > KEY_PEM_BYTES_MAX {
        return None;
    }
    let digits = pem.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    STANDARD.decode(digits.split_ascii_whitespace().collect::<String>()).ok()
}

fn to_pem(der: &[u8]) -> String {
    let digits = STANDARD.encode(der);
    let mut pem = format!("{BEGIN}\n");
    let mut rest = digits.as_str();
    while let Some((line, after)) = rest.split_at_checked(LINE) {
        pem = pem + line + "\n";
        rest = after;
    }
    if !rest.is_empty() {
        pem = pem + rest + "\n";
    }
    pem + END + "\n"
}

/// The content of the one element that `der` consists of. Lengths of up to two bytes (ITU-T X.690 section 8.1.3), more
/// than any key here can need.
fn whole(tag: u8, der: &[u8]) -> Option<&[u8]> {
    let rest = der.strip_prefix(&[tag])?;
    let (&first, rest) = rest.split_first()?;
    let (length, content) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&length, rest)| (usize::from(length), rest))?,
        0x82 => rest.split_first_chunk().map(|(&length, rest)| (usize::from(u16::from_be_bytes(length)), rest))?,
        _ => return None,
    };
    (content.len() == length).then_some(content)
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let length = match (high, low) {
        (0, 0..=0x7f) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag], length.as_slice(), content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by OpenSSL 3.0: `openssl ecparam -genkey -name prime256v1 | openssl ec -pubout`.
    const EC_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEgl5BzQX5S0QMZh3ImF6QNyg4fA8k\n\
qirwu8YYSyUEv3DN+s+Huyg0PO6XCsttF1VUXoxH9MwifMna8/lFqZIL/A==\n\
-----END PUBLIC KEY-----\n";
    /// `openssl genrsa 2048 | openssl rsa -pubout`.
    const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA7ghN7b20Fq0b9JIK8wXx\n\
5Gy0xN1JJvvhbV6Lef9v5pL86cCRD8Efynb6IDCWm/IFYHTMaDC/NvKVyqQXgXF2\n\
cj6zXL52oqeuTsQwFZhRjnyreXoc6nNkpgA7jD4HFI+pzh7Y6UeWxr9JwXq/YpzK\n\
IjZ0Cj7mY5LmK0EN25QIxa4ubavCUlgJSQnQ2NmI7e+TuIrPFXpDJ6mLJLBhQjWX\n\
WzAPnMzpDnkhWTWty9kPqoafO9YgmAq/2EO/YrU+8rZJWYw4In2te7WSFzHQj9Z3\n\
onFnkFxgD5bxSjAuKkym79X/OeW65fdfzK+H8CAaSIBUccfk40oRxa47qKKgLIfe\n\
HwIDAQAB\n\
-----END PUBLIC KEY-----\n";

    #[test]
    fn keys_of_openssl_are_read_and_written_the_same() {
        assert_eq!(p256_to_pem(&p256(EC_PEM).unwrap()), EC_PEM);
        assert_eq!(rsa_to_pem(&rsa(RSA_PEM).unwrap()), RSA_PEM);
        assert_eq!(p256(EC_PEM.trim()), p256(EC_PEM), "the last line break is not needed");
        assert_eq!(p256(&EC_PEM.replace('\n', "\r\n")), p256(EC_PEM));
    }

    #[test]
    fn a_key_of_another_kind_is_none() {
        assert_eq!(rsa(EC_PEM), None);
        assert_eq!(p256(RSA_PEM), None);
        let private = EC_PEM.replace("PUBLIC", "PRIVATE");
        for bad in ["", BEGIN, "-----BEGIN PUBLIC KEY-----END PUBLIC KEY-----", &private, &EC_PEM.repeat(2)] {
            assert_eq!(p256(bad), None, "{bad}");
        }
        assert_eq!(p256(&format!("{BEGIN}\n{}{END}", " ".repeat(KEY_PEM_BYTES_MAX))), None);
    }

    #[test]
    fn der_that_is_cut_lengthened_or_altered_is_none_or_another_key() {
        for (pem, rsa_key) in [(EC_PEM, false), (RSA_PEM, true)] {
            let der = from_pem(pem).unwrap();
            let read =
                |der: &[u8]| if rsa_key { rsa(&to_pem(der)) } else { p256(&to_pem(der)).map(|key| key.to_vec()) };
            let right = read(&der).unwrap();
            for end in 0..der.len() {
                assert_eq!(read(&der[..end]), None, "cut at {end}");
                let mut altered = der.clone();
                altered[end] ^= 0x80;
                assert_ne!(read(&altered), Some(right.clone()), "altered at {end}");
            }
            assert_eq!(read(&[der.as_slice(), &[0]].concat()), None);
        }
    }
}
