//! Downloads over real TLS from an origin that cuts, stalls, lies and gets it wrong.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod origin;

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use orangery_agent::fetch::{FetchError, Http, Patience};
use orangery_wire::messages::RefusalCode;
use origin::{Authority, Origin, Seen, Trick, sha256, tag};

/// Larger than several batches of the writer, and not a multiple of anything.
const SIZE: usize = 1_500_007;
const PATH: &str = "/blobs/it";

struct World {
    authority: Authority,
    origin: Origin,
    directory: tempfile::TempDir,
    file: Vec<u8>,
}

impl World {
    async fn new() -> Self {
        Self::with_file((0..SIZE).map(|n| ((n * n) >> 7).to_le_bytes()[0]).collect()).await
    }

    async fn with_file(file: Vec<u8>) -> Self {
        let authority = Authority::new();
        let origin = Origin::start(&authority).await;
        origin.put(PATH, file.clone());
        Self { authority, origin, directory: tempfile::tempdir().unwrap(), file }
    }

    fn part(&self) -> PathBuf {
        self.directory.path().join("part")
    }

    fn http(&self, patience: Patience) -> Http {
        Http::with_patience(&self.origin.url, self.authority.node("attic"), patience).unwrap()
    }

    async fn download_with(&self, patience: Patience) -> Result<Vec<u8>, FetchError> {
        let http = self.http(patience);
        let mut file = http.download(PATH, &sha256(&self.file), self.file.len() as u64, &self.part()).await?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        Ok(bytes)
    }

    async fn download(&self) -> Result<Vec<u8>, FetchError> {
        self.download_with(brisk()).await
    }

    /// The download must come to the right end.
    async fn succeeds(&self) {
        assert!(self.download().await.unwrap() == self.file, "the bytes are those of the origin");
    }

    /// The download must be refused for good, and leave nothing behind.
    async fn is_unverified(&self) -> FetchError {
        let error = self.download().await.unwrap_err();
        assert!(error.refusal().is_some_and(RefusalCode::is_unverified), "{error}");
        assert!(!self.part().exists(), "what is of no use is removed");
        error
    }

    /// The `Range` headers of all requests so far.
    fn ranges(&self) -> Vec<Option<String>> {
        self.origin.seen().into_iter().map(|seen| seen.range).collect()
    }
}

fn brisk() -> Patience {
    Patience {
        answer: Duration::from_secs(5),
        stall: Duration::from_millis(300),
        stall_bytes: 1_000,
        ..Patience::default()
    }
}

fn without_resumes() -> Patience {
    Patience { resumes_max: 0, ..brisk() }
}

#[tokio::test]
async fn a_file_arrives_whole_and_verified() {
    let world = World::new().await;
    world.succeeds().await;
    assert_eq!(world.origin.seen(), [Seen { path: PATH.into(), range: None, if_range: None }]);
    assert!(fs::read(world.part()).unwrap() == world.file);
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_stopped() {
    let world = World::new().await;
    world.origin.play([Trick::CutAfter(700_000), Trick::CutAfter(300_000)]);
    world.succeeds().await;
    assert_eq!(world.ranges(), [None, Some("bytes=700000-".into()), Some("bytes=1000000-".into())]);
    let if_ranges: Vec<_> = world.origin.seen().into_iter().map(|seen| seen.if_range).collect();
    assert_eq!(if_ranges, [None, Some(tag(&world.file)), Some(tag(&world.file))]);
}

#[tokio::test]
async fn the_next_call_goes_on_from_the_part_of_the_last() {
    let world = World::new().await;
    world.origin.play([Trick::CutAfter(700_001)]);
    let error = world.download_with(without_resumes()).await.unwrap_err();
    assert!(matches!(error, FetchError::Cut { .. }) && error.again(), "{error}");
    assert_eq!(fs::metadata(world.part()).unwrap().len(), 700_001);
    world.succeeds().await;
    assert_eq!(world.ranges(), [None, Some("bytes=700001-".into())]);
}

#[tokio::test]
async fn a_cut_after_every_few_bytes_ends_in_a_pause_that_keeps_the_part() {
    let world = World::new().await;
    world.origin.play(vec![Trick::CutAfter(10_000); 9]);
    let error = world.download().await.unwrap_err();
    assert!(error.again(), "{error}");
    assert_eq!(fs::metadata(world.part()).unwrap().len(), 90_000, "eight more goes after the first");
    world.origin.play(vec![Trick::CutAfter(500)]);
    let error = world.download().await.unwrap_err();
    assert!(error.again(), "{error}");
    assert_eq!(world.ranges().len(), 10, "a go that brought next to nothing is the last of its call");
    world.succeeds().await;
}

#[tokio::test]
async fn a_stalled_download_is_given_up_and_its_part_kept() {
    let world = World::new().await;
    world.origin.play([Trick::StallAfter(700_000)]);
    let error = world.download_with(without_resumes()).await.unwrap_err();
    assert!(matches!(error, FetchError::Stalled { .. }) && error.again(), "{error}");
    assert_eq!(fs::metadata(world.part()).unwrap().len(), 700_000);
    world.succeeds().await;
}

#[tokio::test]
async fn a_sender_that_trickles_counts_as_stalled() {
    let world = World::new().await;
    world.origin.play([Trick::Trickle]);
    let error = world.download().await.unwrap_err();
    assert!(matches!(error, FetchError::Stalled { .. }), "{error}");
}

#[tokio::test]
async fn an_origin_that_does_not_answer_is_given_up() {
    let world = World::new().await;
    world.origin.play([Trick::Silence]);
    let patience = Patience { answer: Duration::from_millis(300), ..brisk() };
    let error = world.download_with(patience).await.unwrap_err();
    assert!(matches!(error, FetchError::NoAnswer { .. }) && error.again(), "{error}");
}

#[tokio::test]
async fn one_byte_more_than_signed_is_refused() {
    let world = World::new().await;
    for trick in [Trick::Longer(1), Trick::Longer(3_000_000), Trick::LongerAnnounced(1)] {
        world.origin.play([trick]);
        world.is_unverified().await;
    }
}

#[tokio::test]
async fn a_file_that_is_shorter_on_the_origin_is_refused() {
    let world = World::new().await;
    for missing in [1, SIZE] {
        world.origin.play([Trick::Shorter(missing)]);
        let error = world.is_unverified().await;
        assert!(matches!(error, FetchError::WrongSize { .. }), "{error}");
    }
}

#[tokio::test]
async fn wrong_bytes_are_refused() {
    let world = World::new().await;
    world.origin.play([Trick::Wrong]);
    let error = world.is_unverified().await;
    assert!(matches!(error, FetchError::WrongDigest { .. }), "{error}");
}

#[tokio::test]
async fn wrong_bytes_at_the_end_of_a_resumed_download_are_fetched_anew_before_they_are_held_against_the_release() {
    let world = World::new().await;
    world.origin.play([Trick::CutAfter(700_000), Trick::Wrong]);
    world.succeeds().await;
    assert_eq!(world.ranges(), [None, Some("bytes=700000-".into()), None]);

    fs::remove_file(world.part()).unwrap();
    world.origin.play([Trick::CutAfter(700_000), Trick::Wrong, Trick::Wrong]);
    world.is_unverified().await;
}

#[tokio::test]
async fn a_whole_file_instead_of_the_rest_begins_at_zero() {
    let world = World::new().await;
    world.origin.play([Trick::CutAfter(700_000), Trick::Whole]);
    world.succeeds().await;
    assert_eq!(world.origin.seen().len(), 2);
}

#[tokio::test]
async fn a_file_with_another_tag_begins_at_zero() {
    let world = World::new().await;
    world.origin.play([Trick::CutAfter(700_000), Trick::Retagged]);
    world.succeeds().await;
    assert_eq!(world.origin.seen().len(), 2);
}

#[tokio::test]
async fn a_wrong_content_range_is_not_believed() {
    let world = World::new().await;
    for says in ["bytes 0-1500006/1500007", "bytes 700000-1500006/1500008", "bytes 700000-1500006/*", "x"] {
        fs::write(world.part(), &world.file[..700_000]).unwrap();
        world.origin.forget_seen();
        world.origin.play([Trick::RangeSays(says)]);
        world.succeeds().await;
        assert_eq!(world.ranges(), [Some("bytes=700000-".into()), None], "{says}");
    }
}

#[tokio::test]
async fn a_range_that_goes_on_beyond_its_end_is_not_believed() {
    let world = World::new().await;
    world.origin.play([Trick::CutAfter(700_000), Trick::Longer(1)]);
    world.succeeds().await;
    assert_eq!(world.ranges(), [None, Some("bytes=700000-".into()), None]);
}

#[tokio::test]
async fn a_range_that_the_origin_cannot_serve_begins_at_zero() {
    let world = World::new().await;
    world.origin.play([Trick::CutAfter(700_000), Trick::Status(416)]);
    world.succeeds().await;
}

#[tokio::test]
async fn a_part_that_is_complete_needs_no_network() {
    let world = World::new().await;
    world.succeeds().await;
    world.origin.forget_seen();
    world.succeeds().await;
    assert_eq!(world.origin.seen(), []);
}

#[tokio::test]
async fn a_part_that_is_not_what_was_downloaded_is_dropped() {
    let world = World::new().await;
    for bad in [vec![0; SIZE], vec![0; SIZE + 1], vec![0; 700_000]] {
        fs::write(world.part(), bad).unwrap();
        world.succeeds().await;
    }
}

#[tokio::test]
async fn a_file_of_no_bytes_needs_no_network() {
    let world = World::with_file(Vec::new()).await;
    world.succeeds().await;
    assert_eq!(world.origin.seen(), []);
}

#[tokio::test]
async fn statuses_tell_what_may_help() {
    let world = World::new().await;
    for (status, refusal) in [
        (404, Some(RefusalCode::NotFound)),
        (410, Some(RefusalCode::NotFound)),
        (401, None),
        (403, None),
        (416, None),
        (429, None),
        (500, None),
        (503, None),
    ] {
        world.origin.play([Trick::Status(status)]);
        let error = world.download_with(without_resumes()).await.unwrap_err();
        assert_eq!(error.refusal(), refusal, "{status}: {error}");
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let world = World::new().await;
    let elsewhere = Origin::start(&world.authority).await;
    elsewhere.put(PATH, world.file.clone());
    for to in [format!("{}{PATH}", elsewhere.url), format!("{}{PATH}?", world.origin.url), "file:///etc/passwd".into()]
    {
        world.origin.play([Trick::Redirect(to.clone()), Trick::Redirect(to)]);
        let error = world.download().await.unwrap_err();
        assert!(matches!(error, FetchError::Redirected { status: 302, .. }), "{error}");
        let error = world.http(brisk()).get(PATH, 1 << 20).await.unwrap_err();
        assert!(matches!(error, FetchError::Redirected { .. }), "{error}");
    }
    assert_eq!(elsewhere.connections(), 0);
    assert_eq!(world.origin.seen().len(), 6, "one request each");
}

#[tokio::test]
async fn a_link_in_place_of_the_part_is_not_followed() {
    let world = World::new().await;
    let victim = world.directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, world.part()).unwrap();
    let error = world.download().await.unwrap_err();
    assert_eq!(error.refusal(), Some(RefusalCode::DiskFailed), "{error}");
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[tokio::test]
async fn two_downloads_into_one_part_do_not_mix() {
    let world = World::new().await;
    world.origin.play([Trick::StallAfter(700_000)]);
    let patient = Patience { stall: Duration::from_mins(1), ..without_resumes() };
    let mut first = Box::pin(world.download_with(patient));
    // The first holds the part as soon as it has asked.
    while world.origin.seen().is_empty() {
        assert!(futures_poll(&mut first).await.is_none());
    }
    let error = world.download().await.unwrap_err();
    assert!(matches!(error, FetchError::Busy { .. }) && error.again(), "{error}");
    drop(first);
    // A write of the dropped one may still be under way; it ends by itself.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        match world.download().await {
            Ok(bytes) => break assert!(bytes == world.file),
            Err(FetchError::Busy { .. }) if std::time::Instant::now() < deadline => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Lets `future` and everything else run for a moment.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::time::timeout(Duration::from_millis(1), future).await.ok()
}
