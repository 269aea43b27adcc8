use super::*;

const PATH: &str = "/etc/orangery/coordinator.toml";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new(PATH))
}

fn with(https: &str, mqtt: &str) -> Result<Config, ConfigError> {
    parse(&format!("[https]\n{https}\n[mqtt]\n{mqtt}\n"))
}

const HTTPS: &str = "listen = \"0.0.0.0:8443\"\nurl = \"https://nas.local:8443\"";
const MQTT: &str = "listen = \"0.0.0.0:8883\"\nadvertise = \"nas.local:8883\"";

#[test]
fn paths_are_relative_to_the_file_and_everything_but_the_addresses_has_a_default() {
    let config = with(HTTPS, MQTT).unwrap();
    assert_eq!(config.https.url, "https://nas.local:8443");
    assert_eq!(config.state_dir, Path::new("/etc/orangery/state"));
    assert_eq!(config.database(), Path::new("/etc/orangery/state/coordinator.db"));
    assert_eq!(config.keys.ca_key, Path::new("/etc/orangery/ca.key"));
    assert_eq!(config.limits.blob_bytes_max, BLOB_BYTES_MAX);
    let absolute = format!("state_dir = \"/srv\"\n[https]\n{HTTPS}\n[mqtt]\n{MQTT}\n[keys]\nca = \"/ca.pem\"\n");
    let config = parse(&absolute).unwrap();
    assert_eq!((config.state_dir.as_path(), config.keys.ca.as_path()), (Path::new("/srv"), Path::new("/ca.pem")));
    let ipv6 = with(&HTTPS.replace("nas.local", "[fd00::1]"), MQTT).unwrap();
    assert_eq!(ipv6.https.url, "https://[fd00::1]:8443");
}

#[test]
fn a_broker_is_embedded_or_external_and_never_both() {
    assert!(matches!(with(HTTPS, MQTT).unwrap().mqtt, Mqtt::Embedded { .. }));
    let external = with(HTTPS, "url = \"mqtts://broker:8883\"").unwrap();
    assert_eq!(external.mqtt, Mqtt::External { address: "broker:8883".into() });
    for bad in [
        "",
        "listen = \"0.0.0.0:1\"",
        "url = \"mqtt://broker:1883\"",
        "url = \"mqtts://broker\"",
        "url = \"mqtts://broker:1/x\"",
        &format!("{MQTT}\nurl = \"mqtts://b:1\""),
    ] {
        assert!(matches!(with(HTTPS, bad), Err(ConfigError::Invalid { .. })), "{bad}");
    }
}

#[test]
fn a_mistyped_key_is_refused_and_the_right_one_is_named() {
    let error = with(&HTTPS.replace("listen", "lisen"), MQTT).unwrap_err().to_string();
    assert!(error.contains("did you mean `listen`?"), "{error}");
    assert!(error.contains(PATH), "{error}");
}

#[test]
fn values_that_cannot_work_are_refused_with_the_key_and_the_rule() {
    for bad in ["http://h:1", "https://h", "https://h:1/path", "https://:1", "https://u@h:1", "https://h:99999"] {
        let https = format!("listen = \"0.0.0.0:8443\"\nurl = \"{bad}\"");
        let error = with(&https, MQTT).unwrap_err().to_string();
        assert!(error.contains("https.url"), "{error}");
    }
    let limits = format!("[https]\n{HTTPS}\n[mqtt]\n{MQTT}\n[limits]\nconnections_max = 1\n");
    assert!(parse(&limits).unwrap_err().to_string().contains("limits.connections_max"));
    assert!(Config::load(Path::new("/nowhere/at/all.toml")).unwrap_err().to_string().contains("/nowhere/at/all.toml"));
}

#[test]
fn port_zero_stands_for_the_port_that_was_bound() {
    assert_eq!(with_port("https://127.0.0.1:0", 77), "https://127.0.0.1:77");
    assert_eq!(with_port("127.0.0.1:8443", 77), "127.0.0.1:8443");
    assert_eq!(with_port("[::1]:0", 77), "[::1]:77");
}

#[test]
fn the_shipped_example_says_the_defaults() {
    let example = parse(include_str!("../../../packaging/coordinator/coordinator.example.toml")).unwrap();
    let https = "listen = \"0.0.0.0:8443\"\nurl = \"https://192.168.1.10:8443\"";
    let mqtt = "listen = \"0.0.0.0:8883\"\nadvertise = \"192.168.1.10:8883\"";
    assert_eq!(example, with(https, mqtt).unwrap());
}

#[test]
fn home_assistant_has_a_broker_a_user_and_topics_of_its_own() {
    let with_house = |house: &str| parse(&format!("[https]\n{HTTPS}\n[mqtt]\n{MQTT}\n[home_assistant]\n{house}"));
    assert_eq!(with(HTTPS, MQTT).unwrap().home_assistant, None);
    let house = with_house("url = \"mqtt://house:1883\"").unwrap().home_assistant.unwrap();
    assert_eq!((house.broker.as_str(), house.has_tls, house.login), ("house:1883", false, None));
    assert_eq!((house.discovery_prefix.as_str(), house.base_topic.as_str()), ("homeassistant", "orangery"));
    assert_eq!((house.birth_topic.as_str(), house.acts_as.as_str()), ("homeassistant/status", "home-assistant"));
    let more =
        "url = \"mqtts://house:8883\"\nca_file = \"house.pem\"\ndiscovery_prefix = \"ha\"\nbase_topic = \"a/b-1\"";
    let house = with_house(more).unwrap().home_assistant.unwrap();
    assert_eq!(house.ca_file.as_deref(), Some(Path::new("/etc/orangery/house.pem")));
    assert_eq!((house.has_tls, house.birth_topic.as_str()), (true, "ha/status"));
    for (bad, key) in [
        ("url = \"http://house:1883\"", "home_assistant.url"),
        ("url = \"mqtt://house\"", "home_assistant.url"),
        ("url = \"mqtt://user:password@house:1883\"", "home_assistant.url"),
        ("url = \"mqtt://house:1\"\nca_file = \"house.pem\"", "home_assistant.ca_file"),
        ("url = \"mqtt://house:1\"\nuser = \"orangery\"", "home_assistant.user"),
        ("url = \"mqtt://house:1\"\npassword = \"x\"", "home_assistant.user"),
        ("url = \"mqtt://house:1\"\nbase_topic = \"a/#\"", "home_assistant.base_topic"),
        ("url = \"mqtt://house:1\"\nbase_topic = \"/a\"", "home_assistant.base_topic"),
        ("url = \"mqtt://house:1\"\nbase_topic = \"homeassistant\"", "home_assistant.base_topic"),
        ("url = \"mqtt://house:1\"\ndiscovery_prefix = \"\"", "home_assistant.discovery_prefix"),
        ("url = \"mqtt://house:1\"\nacts_as = \"Nobody Here\"", "home_assistant.acts_as"),
    ] {
        let error = with_house(bad).unwrap_err().to_string();
        assert!(error.contains(key), "{bad}: {error}");
        assert!(!error.contains("password@"), "{error}");
    }
}

#[test]
fn browsers_may_reach_it_at_other_addresses_too() {
    let with_urls =
        |urls: &str| with(&format!("{HTTPS}\npublic_urls = {urls}"), MQTT).map(|config| config.https.public_urls);
    assert_eq!(with(HTTPS, MQTT).unwrap().https.public_urls, Vec::<String>::new());
    let good =
        with_urls(r#"["https://fleet.example.org/", "https://nas:9443", "https://[fd00::1]", "https://[fd00::1]:1"]"#);
    assert_eq!(
        good.unwrap(),
        ["https://fleet.example.org", "https://nas:9443", "https://[fd00::1]", "https://[fd00::1]:1"]
    );
    for bad in [
        "http://nas",
        "nas",
        "https://",
        "https://nas:",
        "https://nas:x",
        "https://nas/fleet",
        "https://a b",
        "*",
        "null",
    ] {
        let error = with_urls(&format!("[{bad:?}]")).unwrap_err().to_string();
        assert!(error.contains("https.public_urls") && error.contains("without a path"), "{bad}: {error}");
    }
    assert!(with_urls(&format!("[{}]", "\"https://a\",".repeat(17))).is_err());
}
