use tokio::io::AsyncReadExt as _;

use super::*;
use crate::sha256::digest;

fn pieces(all: &[&'static [u8]]) -> impl Stream<Item = Result<Bytes, io::Error>> + Unpin + use<> {
    let all: Vec<_> = all.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
    futures_util::stream::iter(all)
}

fn fixture() -> (tempfile::TempDir, Artifacts) {
    let directory = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(&directory.path().join("blobs"), 10).unwrap();
    (directory, artifacts)
}

fn left(artifacts: &Artifacts) -> usize {
    std::fs::read_dir(&artifacts.directory).unwrap().count()
}

#[tokio::test]
async fn an_artifact_is_stored_once_under_its_digest() {
    let (_directory, artifacts) = fixture();
    let name = digest(b"hello");
    assert_eq!(artifacts.size(&name).await.unwrap(), None);
    assert_eq!(artifacts.put(&name, pieces(&[b"hel", b"lo"])).await.unwrap(), (5, true));
    assert_eq!(artifacts.put(&name, pieces(&[b"something else"])).await.unwrap(), (5, false), "what is there stays");
    let (mut file, size) = artifacts.open_one(&name).await.unwrap().unwrap();
    let mut content = String::new();
    file.read_to_string(&mut content).await.unwrap();
    assert_eq!((content.as_str(), size, left(&artifacts)), ("hello", 5, 1));
}

#[tokio::test]
async fn an_artifact_that_has_changed_on_the_disk_is_missing_and_an_upload_takes_its_place() {
    let (_directory, artifacts) = fixture();
    let name = digest(b"hello");
    artifacts.put(&name, pieces(&[b"hello"])).await.unwrap();
    assert_eq!(artifacts.whole(&name).await.unwrap(), Some(5));
    std::fs::write(artifacts.path(&name), b"hullo").unwrap();
    assert_eq!((artifacts.size(&name).await.unwrap(), artifacts.whole(&name).await.unwrap()), (Some(5), None));
    assert_eq!(artifacts.put(&name, pieces(&[b"hello"])).await.unwrap(), (5, true));
    assert_eq!((artifacts.whole(&name).await.unwrap(), left(&artifacts)), (Some(5), 1));
}

#[tokio::test]
async fn a_wrong_long_or_cut_upload_leaves_nothing() {
    let (_directory, artifacts) = fixture();
    let name = digest(b"hello");
    let wrong = artifacts.put(&name, pieces(&[b"hullo"])).await.unwrap_err();
    assert!(matches!(wrong, ArtifactError::WrongDigest { expected, .. } if expected == name));
    let short = artifacts.put(&name, pieces(&[b"hell"])).await.unwrap_err();
    assert!(matches!(short, ArtifactError::WrongDigest { .. }));
    let long = artifacts.put(&digest(b"0123456789a"), pieces(&[b"0123456789", b"a"])).await.unwrap_err();
    assert!(matches!(long, ArtifactError::TooLarge { bytes_max: 10 }));
    let cut = futures_util::stream::iter([Ok(Bytes::from_static(b"hel")), Err(io::Error::other("reset"))]);
    let cut = artifacts.put(&name, cut).await.unwrap_err();
    assert!(matches!(cut, ArtifactError::Interrupted { .. }));
    assert_eq!(left(&artifacts), 0);
}

#[tokio::test]
async fn what_a_kill_left_behind_is_removed_at_the_start_and_artifacts_stay() {
    let (directory, artifacts) = fixture();
    artifacts.put(&digest(b"hello"), pieces(&[b"hello"])).await.unwrap();
    std::fs::write(artifacts.directory.join(".incoming-0123"), b"half").unwrap();
    let artifacts = Artifacts::open(&directory.path().join("blobs"), 10).unwrap();
    assert_eq!(left(&artifacts), 1);
}

#[tokio::test]
async fn many_uploads_of_one_artifact_at_a_time_do_not_disturb_each_other() {
    let (_directory, artifacts) = fixture();
    let name = digest(b"hello");
    let uploads = (0..20).map(|_| artifacts.put(&name, pieces(&[b"hel", b"lo"])));
    let sizes = futures_util::future::join_all(uploads).await;
    assert!(sizes.into_iter().all(|size| size.unwrap().0 == 5));
    assert_eq!(left(&artifacts), 1);
}
