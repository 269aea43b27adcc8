use std::collections::BTreeMap;

use super::*;

fn entry(before: Link, deed: &str, detail: &[(&str, String)]) -> AuditLine {
    let entry = AuditEntry {
        format: FORMAT,
        sequence: before.sequence + 1,
        previous: before.digest,
        at: 1_800_000_000,
        who: "kim".into(),
        token: None,
        from: Some("192.0.2.7".into()),
        deed: deed.into(),
        object: "node attic".into(),
        outcome: "done".into(),
        detail: detail.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<BTreeMap<_, _>>(),
    };
    let text = entry.canonical();
    AuditLine { sequence: entry.sequence, digest: sha256::digest(text.as_bytes()).to_string(), entry: text }
}

fn link(line: &AuditLine) -> Link {
    Link { sequence: line.sequence, digest: line.digest.parse().unwrap() }
}

fn ten() -> Vec<AuditLine> {
    let mut lines: Vec<AuditLine> = Vec::new();
    for _ in 0..10 {
        lines.push(entry(lines.last().map_or(Link::START, link), "node.hold", &[]));
    }
    lines
}

fn verify(lines: &[AuditLine], noted: Option<Link>) -> Result<Whole, Broken> {
    let mut chain = Chain::noting(noted);
    lines.iter().try_for_each(|line| chain.push(line))?;
    chain.end()
}

fn place(lines: &[AuditLine]) -> u64 {
    verify(lines, None).expect_err("it should be broken").sequence
}

#[test]
fn the_canonical_bytes_are_these() {
    let line = entry(Link::START, "node.hold", &[("reason", "a \"test\"".to_owned())]);
    let expected = format!(
        "{{\"format\":1,\"sequence\":1,\"previous\":\"{}\",\"at\":1800000000,\"who\":\"kim\",\"token\":null,\
         \"from\":\"192.0.2.7\",\"deed\":\"node.hold\",\"object\":\"node attic\",\"outcome\":\"done\",\
         \"detail\":{{\"reason\":\"a \\\"test\\\"\"}}}}",
        "0".repeat(64)
    );
    assert_eq!(line.entry, expected);
}

#[test]
fn a_whole_chain_holds_and_so_does_an_empty_one() {
    let lines = ten();
    assert_eq!(verify(&lines, None), Ok(Whole { first: 1, last: link(&lines[9]) }));
    assert_eq!(verify(&[], None), Ok(Whole { first: 0, last: Link::START }));
}

#[test]
fn every_single_change_is_found_where_it_is_or_right_after_it() {
    for k in 0..10_usize {
        let sequence = k as u64 + 1;
        let mut changed = ten();
        changed[k].entry = changed[k].entry.replace("kim", "eve");
        assert_eq!(place(&changed), sequence, "changed");
        // With a digest that fits the next one shows it; the newest has none after it.
        changed[k].digest = sha256::digest(changed[k].entry.as_bytes()).to_string();
        if k < 9 {
            assert_eq!(place(&changed), sequence + 1, "changed with its digest");
        } else {
            assert!(verify(&changed, None).is_ok());
            assert_eq!(verify(&changed, Some(link(&ten()[9]))).unwrap_err().sequence, 10, "but for who has noted it");
        }
        let mut spaced = ten();
        spaced[k].entry = spaced[k].entry.replacen(':', ": ", 1);
        spaced[k].digest = sha256::digest(spaced[k].entry.as_bytes()).to_string();
        assert_eq!(place(&spaced), sequence, "other bytes that mean the same");
        if (1..9).contains(&k) {
            let mut removed = ten();
            removed.remove(k);
            assert_eq!(place(&removed), sequence + 1, "removed");
        }
    }
}

#[test]
fn entries_that_change_places_are_found_whether_or_not_their_numbers_go_with_them() {
    for k in 0..9_usize {
        let mut swapped = ten();
        swapped.swap(k, k + 1);
        let by_place = place(&swapped);
        assert!(by_place == k as u64 + 1 || by_place == k as u64 + 2, "{by_place} for {k}");
        let (one, two) = (swapped[k].sequence, swapped[k + 1].sequence);
        (swapped[k].sequence, swapped[k + 1].sequence) = (two, one);
        assert_eq!(place(&swapped), k as u64 + 1);
    }
}

#[test]
fn the_oldest_may_be_gone_if_a_later_entry_says_so_and_only_those() {
    let mut lines = ten();
    let gone = link(&lines[3]);
    let detail = [(PRUNED_LAST, gone.sequence.to_string()), (PRUNED_DIGEST, gone.digest.to_string())];
    lines.push(entry(link(&lines[9]), PRUNE, &detail));
    assert_eq!(verify(&lines[4..], None), Ok(Whole { first: 5, last: link(&lines[10]) }));
    assert_eq!(verify(&lines, None).map(|whole| whole.first), Ok(1), "nothing is deleted yet: the power was cut");
    assert_eq!(place(&lines[5..]), 6, "one more is gone");
    assert_eq!(place(&ten()[4..]), 5, "nobody says so");
    // Noted, and deleted since.
    assert!(verify(&lines[4..], Some(gone)).is_ok());
}

#[test]
fn an_end_that_is_cut_off_is_found_by_who_has_noted_an_entry_of_it() {
    let lines = ten();
    assert!(verify(&lines[..7], None).is_ok());
    assert_eq!(verify(&lines[..7], Some(link(&lines[8]))).unwrap_err().sequence, 9);
    let text = link(&lines[8]).to_string();
    assert_eq!(text.parse(), Ok(link(&lines[8])));
    for wrong in ["", "9", "9:", ":aa", "nine:00"] {
        assert!(wrong.parse::<Link>().is_err(), "{wrong}");
    }
}
