use super::*;

const NOW: UnixTime = 1_800_000_000;

fn request(key: &KeyPair, name: &str) -> String {
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

#[test]
fn a_saved_ca_issues_what_a_loaded_one_recognises() {
    let dir = tempfile::tempdir().unwrap();
    let (key, certificate) = (dir.path().join("ca.key"), dir.path().join("ca.pem"));
    let made = Ca::create(NOW).unwrap();
    made.save(&key, &certificate).unwrap();
    let loaded = Ca::load(&key, &certificate).unwrap();
    assert_eq!(loaded.fingerprint(), made.fingerprint());
    let link = loaded.issue_link(NOW).unwrap();
    assert_eq!(Peer::of_pem(&link.certificate.pem).unwrap().name, COORDINATOR);
    assert_eq!(Peer::of_pem(&link.certificate.pem).unwrap().node(), None);
}

#[test]
fn the_key_of_the_ca_is_readable_by_its_owner_alone_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (key, certificate) = (dir.path().join("ca.key"), dir.path().join("ca.pem"));
    let ca = Ca::create(NOW).unwrap();
    ca.save(&key, &certificate).unwrap();
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(Ca::create(NOW).unwrap().save(&key, &certificate), Err(CaError::Write { .. })));
    assert_eq!(Ca::load(&key, &certificate).unwrap().fingerprint(), ca.fingerprint());
}

#[test]
fn a_key_and_a_certificate_of_different_cas_are_refused() {
    let (a, b) = (Ca::create(NOW).unwrap(), Ca::create(NOW).unwrap());
    let error = Ca::from_pem(&a.key_pem, b.certificate_pem()).unwrap_err();
    assert!(matches!(error, CaError::Load { what: "certificate", .. }), "{error}");
}

#[test]
fn a_certificate_is_known_as_issued_by_the_ca_that_did_and_by_no_other_of_the_same_name() {
    let (own, other) = (Ca::create(NOW).unwrap(), Ca::create(NOW).unwrap());
    let issued = own.issue_link(NOW).unwrap().certificate.pem;
    let path = Path::new("/srv/link.pem");
    own.check_issued(path, &issued).unwrap();
    for certificate in [&other.issue_link(NOW).unwrap().certificate.pem, other.certificate_pem(), "no PEM"] {
        let error = own.check_issued(path, certificate).unwrap_err().to_string();
        assert!(error.starts_with("/srv/link.pem was not issued by the CA"), "{error}");
    }
}

#[test]
fn a_node_gets_the_name_that_it_was_enrolled_under_whatever_its_request_says() {
    let ca = Ca::create(NOW).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let issued = ca.issue_node(&node("a"), &request(&key, "b"), NOW).unwrap();
    let peer = Peer::of_pem(&issued.pem).unwrap();
    assert_eq!(peer.node(), Some(node("a")));
    assert_eq!((peer.serial, peer.not_after), (issued.serial, issued.not_after));
    assert_eq!(issued.not_after, NOW + NODE_DAYS * DAY_SECS);

    let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    assert!(!parsed.is_ca());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    let names: Vec<String> = parsed
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names.len(), 1);
    assert!(names[0].contains("urn:orangery:node:a"), "{names:?}");
}

#[test]
fn every_certificate_has_its_own_serial() {
    let ca = Ca::create(NOW).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut serials: Vec<_> =
        (0..50).map(|_| ca.issue_node(&node("a"), &request(&key, "a"), NOW).unwrap().serial).collect();
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 50);
}

#[test]
fn a_bad_signing_request_is_refused() {
    let ca = Ca::create(NOW).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let good = request(&key, "a");
    let mut tampered: Vec<u8> = CertificateSigningRequestParamsDer::decode(&good);
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    let other_curve = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let cases = [
        ("empty", String::new()),
        ("not PEM", "certificate please".to_owned()),
        ("wrong signature", CertificateSigningRequestParamsDer::encode(&tampered)),
        ("wrong algorithm", request(&other_curve, "a")),
        ("too large", format!("{good}{}", " ".repeat(CSR_BYTES_MAX))),
        ("a certificate", ca.certificate_pem().to_owned()),
    ];
    for (what, csr) in cases {
        assert!(matches!(ca.issue_node(&node("a"), &csr, NOW), Err(CaError::Request { .. })), "{what}");
    }
    let reserved = ca.issue_node(&node(COORDINATOR), &good, NOW).unwrap_err();
    assert!(reserved.to_string().contains("choose another name"), "{reserved}");
}

/// Takes the armour off a request and puts it on again.
struct CertificateSigningRequestParamsDer;

impl CertificateSigningRequestParamsDer {
    fn decode(pem: &str) -> Vec<u8> {
        rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    }

    fn encode(der: &[u8]) -> String {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    }
}

#[test]
fn the_server_is_named_by_host_names_and_addresses() {
    let ca = Ca::create(NOW).unwrap();
    let names = ["nas.local".to_owned(), "192.0.2.7".to_owned()];
    let server = ca.issue_server(&names, NOW).unwrap();
    let der = CertificateDer::from_pem_slice(server.certificate.pem.as_bytes()).unwrap();
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2 + LOOPBACK.len());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth, "a server's certificate is nobody's client");
    assert!(!format!("{server:?}").contains("PRIVATE"), "keys are not printed");
}
