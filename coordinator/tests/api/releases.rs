//! Artifacts and the releases that are made of them.

use orangery::sha256::digest;
use orangery_wire::Manifest;
use orangery_wire::rest::{PublishRequest, ReleaseView};
use reqwest::Method;

use super::fixture::{Fixture, code, denied, denied_with, manifest, reference};

#[tokio::test]
async fn an_artifact_is_uploaded_once_found_and_read_in_ranges() {
    let fixture = Fixture::start().await;
    let operator = fixture.operator();
    let (garage, _, _) = fixture.join("garage").await;
    let content: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let name = digest(&content);
    let size = async || {
        let response = operator.request(Method::HEAD, &format!("/v1/blobs/{name}")).send().await.unwrap();
        let length = response.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned());
        (response.status().as_u16(), length)
    };
    assert_eq!(size().await.0, 404);
    operator.put_blob(&content).await.unwrap();
    operator.put_blob(&content).await.unwrap();
    assert_eq!(size().await, (200, Some("200000".into())));

    let path = format!("/blobs/{name}");
    let etag = format!("\"{name}\"");
    let get = async |headers: &[(&str, &str)]| {
        let request = headers.iter().fold(garage.request(Method::GET, &path), |r, (k, v)| r.header(*k, *v));
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.bytes().await.unwrap())
    };
    let (status, headers, body) = get(&[]).await;
    assert_eq!((status, &body[..], headers["etag"].to_str().unwrap()), (200, &content[..], etag.as_str()));
    let (status, headers, body) = get(&[("range", "bytes=150000-"), ("if-range", &etag)]).await;
    assert_eq!((status, &body[..]), (206, &content[150_000..]));
    assert_eq!(headers["content-range"], "bytes 150000-199999/200000");
    let (status, _, body) = get(&[("range", "bytes=1-3")]).await;
    assert_eq!((status, &body[..]), (206, &content[1..4]));
    let (status, _, body) = get(&[("range", "bytes=1-3"), ("if-range", "\"another\"")]).await;
    assert_eq!((status, body.len()), (200, 200_000), "what is there is not what was begun");
    let (status, headers, _) = get(&[("range", "bytes=200000-")]).await;
    assert_eq!((status, headers["content-range"].to_str().unwrap()), (416, "bytes */200000"));
    let (status, _, body) = get(&[("if-none-match", &etag)]).await;
    assert_eq!((status, body.len()), (304, 0));
}

#[tokio::test]
async fn an_upload_that_is_wrong_too_long_or_misnamed_is_refused_and_leaves_nothing() {
    let fixture = Fixture::start().await;
    let operator = fixture.operator();
    let right = digest(b"right");
    assert_eq!(code(operator.put_blob_as(&right, b"wrong").await), denied_with(422, "blob_wrong_digest"));
    let large = vec![0; (1 << 20) + 1];
    assert_eq!(code(operator.put_blob(&large).await), denied_with(413, "blob_too_large"));
    let misnamed = operator.request(Method::PUT, "/v1/blobs/ABC").body("x").send().await.unwrap();
    assert_eq!(denied(misnamed).await.body.code, "invalid_name");
    assert_eq!(std::fs::read_dir(fixture.directory.path().join("blobs")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_release_is_published_with_everything_that_nodes_need() {
    let fixture = Fixture::start().await;
    let operator = fixture.operator();
    let (garage, _, _) = fixture.join("garage").await;
    let manifest = fixture.publish("1.0.0").await;
    fixture.publish("1.10.0").await;
    fixture.publish("1.9.0").await;
    let listed: Vec<ReleaseView> = operator.get("/v1/releases").await.unwrap();
    let versions: Vec<_> = listed.iter().map(|release| release.version.to_string()).collect();
    assert_eq!(versions, ["1.10.0", "1.9.0", "1.0.0"]);
    let shown: ReleaseView = operator.get("/v1/releases/greeter/1.0.0").await.unwrap();
    assert_eq!((shown.id, shown.notes.as_deref()), (reference(&manifest).id, Some("notes of 1.0.0")));
    assert_eq!(code(operator.get::<()>("/v1/releases/greeter/2.0.0").await), denied_with(404, "unknown_version"));
    assert_eq!(code(operator.get::<()>("/v1/releases/greeter/2").await), denied_with(422, "invalid_name"));

    let file = format!("/targets/greeter/1.0.0/{}.manifest.json", shown.id);
    let served = garage.request(Method::GET, &file).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(served, manifest.to_bytes());
    let timestamp: serde_json::Value = garage.get("/metadata/timestamp.json").await.unwrap();
    assert_eq!(timestamp["signed"]["meta"]["snapshot.json"]["version"], 3);
    for file in ["/metadata/..%2fsnapshot.key", "/metadata/timestamp.key", "/targets/greeter/1.0.0/x.manifest.json"] {
        assert_eq!(code(garage.get::<()>(file).await), denied_with(404, "not_found"), "{file}");
    }
}

#[tokio::test]
async fn a_publication_that_does_not_hold_together_is_refused_with_its_code() {
    let fixture = Fixture::start().await;
    let operator = fixture.operator();
    let text = |manifest: &Manifest| String::from_utf8(manifest.to_bytes()).unwrap();
    let publish = async |manifest: String, targets: String| {
        operator.post::<ReleaseView>("/v1/releases", &PublishRequest { manifest, targets }).await
    };
    let now = fixture.clock.now();
    let sign = |manifest: &Manifest| fixture.owner.lock().unwrap().sign(manifest, now);
    let (one, two) = (manifest("1.0.0", b"one"), manifest("1.1.0", b"two"));
    let targets_one = sign(&one);

    assert_eq!(code(publish("{}".into(), targets_one.clone()).await), denied_with(422, "invalid_manifest"));
    assert_eq!(code(publish(text(&one), targets_one.clone()).await), denied_with(422, "blob_missing"));
    operator.put_blob(b"one").await.unwrap();
    operator.put_blob(b"two").await.unwrap();
    let mut longer = one.clone();
    let tree = longer.platforms.get_mut("linux/amd64").unwrap();
    tree.pack.size_bytes += 1;
    assert_eq!(code(publish(text(&longer), targets_one.clone()).await), denied_with(422, "blob_wrong_size"));
    assert_eq!(code(publish(text(&two), targets_one.clone()).await), denied_with(422, "release_unsigned"));
    let mut tampered = one.clone();
    tampered.notes = Some("other".into());
    assert_eq!(code(publish(text(&tampered), targets_one.clone()).await), denied_with(422, "wrong_manifest"));
    let forged = targets_one.replace("1.0.0", "1.1.0");
    assert_eq!(code(publish(text(&two), forged).await), denied_with(422, "targets_unsigned"));
    assert_eq!(code(publish(text(&one), "{}".into()).await), denied_with(422, "targets_unreadable"));

    publish(text(&one), targets_one.clone()).await.unwrap();
    let again = publish(text(&one), targets_one.clone()).await.unwrap();
    assert_eq!(again.id, reference(&one).id, "the same again is no error");
    assert_eq!(code(publish(text(&tampered), targets_one.clone()).await), denied_with(409, "version_taken"));
    let targets_two = sign(&two);
    publish(text(&two), targets_two.clone()).await.unwrap();
    assert_eq!(code(publish(text(&one), targets_one).await), denied_with(422, "targets_old"));
    fixture.clock.advance(400 * 86_400);
    assert_eq!(code(publish(text(&two), targets_two).await), denied_with(422, "targets_expired"));
}
