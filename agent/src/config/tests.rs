//! Settings as they are written, merged and refused.

use super::*;

fn written(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let main = directory.path().join("agent.toml");
    (directory, main)
}

#[test]
fn the_shipped_example_says_the_defaults() {
    let (_keep, main) = written(&[("agent.toml", include_str!("../../agent.example.toml"))]);
    let mut read = Settings::load(Some(&main)).unwrap();
    assert_eq!(read.labels.remove("site").as_deref(), Some("attic"));
    assert_eq!(read.variables(&"greeter".parse().unwrap())["PORT"], "8080");
    read.apps.clear();
    assert_eq!(read, Settings::default());
}

#[test]
fn a_drop_in_lies_over_the_main_file_key_by_key() {
    let (_keep, main) = written(&[
        ("agent.toml", "[link]\nkeepalive_secs = 60\nbackoff_max_secs = 5"),
        ("agent.d/50-site.toml", "[link]\nkeepalive_secs = 10"),
    ]);
    let read = Settings::load(Some(&main)).unwrap();
    assert_eq!(read.link, Link { keepalive_secs: 10, backoff_max_secs: 5 });
}

#[test]
fn an_unknown_key_is_refused_and_named() {
    let (_keep, main) = written(&[("agent.toml", "[link]\nkeepalive = 60")]);
    let text = Settings::load(Some(&main)).unwrap_err().to_string();
    assert!(text.contains("`keepalive`") && text.contains("keepalive_secs"), "{text}");
}

#[test]
fn a_value_out_of_bounds_is_refused_with_its_bounds() {
    for (text, key) in [
        ("[link]\nkeepalive_secs = 0", "link.keepalive_secs"),
        ("[log]\nlevel = \"loud\"", "log.level"),
        ("[repository]\nurl = \"http://mirror\"", "repository.url"),
        ("[labels]\n\"a b\" = \"c\"", "labels"),
        ("[apps.x.env]\n\"a-b\" = \"c\"", "apps.*.env"),
    ] {
        let (_keep, main) = written(&[("agent.toml", text)]);
        let refused = Settings::load(Some(&main)).unwrap_err().to_string();
        assert!(refused.contains(key), "{refused}");
    }
}

#[test]
fn a_missing_file_is_fine_only_when_nobody_named_it() {
    assert!(Settings::load(Some(Path::new("/nonexistent/agent.toml"))).is_err());
}
