//! When a certificate begins and ends: as much DER as that takes, and no more.

use orangery_wire::UnixTime;
use rustls_pki_types::CertificateDer;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The time in which a certificate is good, both ends included (RFC 5280 section 4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub not_before: UnixTime,
    /// Its last second.
    pub not_after: UnixTime,
}

impl Validity {
    /// Reads it out of a certificate. `None` if that is not where RFC 5280 section 4.1 has it, or before 1970. Says nothing
    /// about whether the certificate is genuine.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (certificate, _) = value(certificate, SEQUENCE)?;
        let (mut rest, _) = value(certificate, SEQUENCE)?;
        if rest.first() == Some(&VERSION) {
            rest = skip(rest)?;
        }
        // Serial number, signature algorithm, issuer.
        for _ in 0..3 {
            rest = skip(rest)?;
        }
        let (validity, _) = value(rest, SEQUENCE)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        Some(Self { not_before, not_after })
    }
}

/// The content of the element at the front, which must have this tag, and what follows it.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    (*bytes.first()? == tag).then(|| element(bytes))?
}

fn skip(bytes: &[u8]) -> Option<&[u8]> {
    element(bytes).map(|(_, rest)| rest)
}

/// X.690 section 8.1, with tags of one byte and lengths of at most two: a certificate is smaller than 64 KiB.
fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match bytes.get(1..)? {
        [short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
        [0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`: RFC 5280 sections 4.1.2.5.1 and 4.1.2.5.2.
fn time(bytes: &[u8]) -> Option<(UnixTime, &[u8])> {
    let tag = *bytes.first()?;
    let (text, after) = element(bytes)?;
    let mut digits = text.strip_suffix(b"Z")?;
    let year = match tag {
        UTC_TIME => {
            let year = pair(&mut digits)?;
            if year < 50 { 2000 + year } else { 1900 + year }
        }
        GENERALIZED_TIME => pair(&mut digits)? * 100 + pair(&mut digits)?,
        _ => return None,
    };
    let (month, day) = (pair(&mut digits)?, pair(&mut digits)?);
    let (hour, minute, second) = (pair(&mut digits)?, pair(&mut digits)?, pair(&mut digits)?);
    let sound = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !sound || !digits.is_empty() {
        return None;
    }
    let seconds = days(year, month, day)?.checked_mul(86_400)? + hour * 3_600 + minute * 60 + second;
    Some((seconds, after))
}

fn pair(digits: &mut &[u8]) -> Option<u64> {
    let (pair, rest) = digits.split_at_checked(2)?;
    *digits = rest;
    pair.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
}

/// Days since 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the leap day is the last.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    const BEFORE_1970: u64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let in_year = (153 * month + 2) / 5 + day - 1;
    (year * 365 + leap_days + in_year).checked_sub(BEFORE_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_knows_its_leap_years() {
        let seconds = |text: &str| {
            let tag = if text.len() == 13 { UTC_TIME } else { GENERALIZED_TIME };
            let bytes = [&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            time(&bytes).map(|(seconds, _)| seconds)
        };
        assert_eq!(seconds("700101000000Z"), Some(0));
        assert_eq!(seconds("19700101000000Z"), Some(0));
        assert_eq!(seconds("000229120000Z"), Some(951_825_600));
        assert_eq!(seconds("20000301000000Z"), Some(951_868_800));
        assert_eq!(seconds("261121031415Z"), Some(1_795_230_855));
        assert_eq!(seconds("20500101000000Z"), Some(2_524_608_000));
        assert_eq!(seconds("99991231235959Z"), Some(253_402_300_799));
        for bad in
            ["690101000000Z", "261301000000Z", "260100000000Z", "26010100000000", "2601010000-1Z", "260101240000Z"]
        {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_certificates_own_dates_are_read() {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2050, 6, 15);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let expected = Validity { not_before: 1_577_836_800, not_after: 2_538_864_000 };
        assert_eq!(Validity::of(certificate.der()), Some(expected));
    }

    #[test]
    fn no_damage_to_a_certificate_does_harm() {
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let good = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
        for length in 0..good.len() {
            assert_eq!(Validity::of(&good[..length].to_vec().into()), None, "cut at {length}");
        }
        for at in 0..good.len() {
            for byte in [0, 0x7f, 0x80, 0x82, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                let _ = Validity::of(&bad.into());
            }
        }
    }
}
