//! A coordinator as a process: what is typed and kept, and what a kill and a restart leave.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use orangery::api::cookie::{CSRF, NAME};
use orangery_wire::rest::{SessionView, SignInRequest};
use reqwest::Method;
use reqwest::header::ORIGIN;

use super::NEW_PASSWORD;
use super::fixture::browser::{PASSWORD, secret_of};
use super::fixture::{Http, code, denied_with, eventually, tls};

/// `orangery`, with its own directory.
fn orangery(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orangery"));
    command.arg("--dir").arg(home).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with something on its standard input: whether it succeeded, and what it said.
fn said(mut command: Command, input: &str) -> (bool, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

/// A coordinator as a process, killed when it is dropped.
struct Coordinator(Child, String);

impl Coordinator {
    async fn serve(home: &Path) -> Self {
        let ready = home.join("ready");
        let _ = std::fs::remove_file(&ready);
        let mut command = orangery(home, &["serve", "--ready-file"]);
        let child = command.arg(&ready).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let line = eventually("it is ready", async || std::fs::read_to_string(&ready).ok()).await;
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self(child, ready["https"].as_str().unwrap().to_owned())
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_coordinator_that_is_killed_still_knows_who_was_signed_in_and_by_which_addresses_it_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    let (done, init) = said(
        orangery(
            &home,
            &["init", "--no-passphrase", "--address", "127.0.0.1", "--https-port", "0", "--mqtt-port", "0"],
        ),
        "",
    );
    assert!(done, "{init}");
    let settings = home.join("coordinator/coordinator.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let text = text.replace("[https]\n", "[https]\npublic_urls = [\"https://fleet.example.org\"]\n");
    std::fs::write(&settings, text).unwrap();
    let coordinator = Coordinator::serve(&home).await;

    let password = |words: &[&str], input: &str| said(orangery(&home, words), input);
    let (done, text) = password(&["user", "password", "owner", "--stdin"], "too short\n");
    assert!(!done && text.contains("from 12 to 128 characters"), "{text}");
    let (done, text) = password(&["user", "password", "owner"], "");
    assert!(!done && text.contains("use --stdin or --file FILE"), "{text}");
    let (done, text) = password(&["user", "password", "owner", "--stdin"], &format!("{PASSWORD}\n"));
    assert!(done && !text.contains("tram"), "{text}");
    let (done, text) = password(&["user", "password", "owner", "--stdin"], &format!("{NEW_PASSWORD}\n"));
    assert!(!done && text.contains("old_password_needed"), "{text}");
    let file = directory.path().join("both");
    std::fs::write(&file, format!("{PASSWORD}\n{NEW_PASSWORD}\n")).unwrap();
    let (done, text) = password(&["user", "password", "owner", "--file", file.to_str().unwrap()], "");
    assert!(done, "{text}");

    let ca = std::fs::read_to_string(home.join("coordinator/ca.pem")).unwrap();
    let http = Http::over(tls(&ca, None), &coordinator.1, None);
    let request = SignInRequest { user: "owner".into(), password: NEW_PASSWORD.into() };
    let sent = http.request(Method::POST, "/v1/session").header(ORIGIN, "https://fleet.example.org").json(&request);
    let response = sent.send().await.unwrap();
    let secret = secret_of(&response).unwrap();
    let view: SessionView = response.json().await.unwrap();
    let (done, text) = password(&["user", "sessions", "owner"], "");
    assert!(done && text.contains("127.0.0.1"), "{text}");

    drop(coordinator);
    let coordinator = Coordinator::serve(&home).await;
    let http = Http::over(tls(&ca, None), &coordinator.1, None);
    let change = async |origin: &str| {
        let request = http.request(Method::POST, "/v1/invites").header("cookie", format!("{NAME}={secret}"));
        let request = request.header(CSRF, view.csrf.clone().unwrap()).header(ORIGIN, origin);
        request.json(&serde_json::json!({"expires_secs": 60, "uses": 1})).send().await.unwrap().status().as_u16()
    };
    assert_eq!(change("https://fleet.example.org").await, 200);
    assert_eq!(change(&coordinator.1).await, 200);
    assert_eq!(change("https://fleet.example.com").await, 403);
    let (done, text) = password(&["user", "sessions", "owner", "--end"], "");
    assert!(done, "{text}");
    assert_eq!(change(&coordinator.1).await, 401);

    // Whoever had the owner's token may have set the password with it: it goes with the token.
    drop(coordinator);
    let (done, text) = password(&["keys", "operator-token"], "");
    assert!(done, "{text}");
    let coordinator = Coordinator::serve(&home).await;
    let http = Http::over(tls(&ca, None), &coordinator.1, None);
    let answer = http.post::<SessionView>("/v1/session", &request).await;
    assert_eq!(code(answer), denied_with(401, "sign_in_wrong"));
}
