//! Stock images become images of nodes: real partition tables and file systems, made and judged by the tools of those who
//! maintain them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod refused;

use std::path::Path;

use bench::{Bench, Image, Layout, ROOT_BYTES, command, run, token};
use orangery_wire::container::{BLOCK_BYTES, header};

#[test]
fn an_image_of_raspberry_pi_os_becomes_one_of_a_node() {
    let Some(bench) = Bench::new() else { return };
    let token = token();
    let stock = bench.stock("pi.img", Layout::Pi);
    let before = run(command("sha256sum").arg(&stock));
    let (key, secret) = (bench.path("key.pub"), bench.path("passphrase"));
    std::fs::write(&key, "ssh-ed25519 AAAA me@laptop\n").unwrap();
    std::fs::write(&secret, "correct horse\n").unwrap();
    let out = bench.path("attic.img");
    let said = bench.made(
        &stock,
        &[
            "--out",
            out.to_str().unwrap(),
            "--name",
            "attic",
            "--invite",
            &token,
            "--label",
            "site=attic",
            "--wifi",
            "At home",
            "--wifi-passphrase-file",
            secret.to_str().unwrap(),
            "--wifi-country",
            "de",
            "--ssh-key",
            key.to_str().unwrap(),
        ],
    );
    assert!(
        said.contains("wrote    /usr/bin/orangery-agent") && said.contains("boot partition: orangery.toml"),
        "{said}"
    );
    assert!(!said.contains(&token) && !said.contains("horse"), "no secrets are printed: {said}");

    let image = Image { path: &out, offset: 34_816 * 512 };
    image.is_sound();
    assert!(
        image.cat("/usr/lib/systemd/system/orangery-agent.service").contains("ExecStart=/usr/bin/orangery-agent run")
    );
    assert!(
        image.debugfs("stat /etc/systemd/system/multi-user.target.wants/orangery-agent.service").contains("symlink")
    );
    let agent = image.debugfs("stat /usr/bin/orangery-agent");
    assert!(agent.contains("Mode:  0755") && agent.contains("User:     0") && agent.contains("Size: 5000"), "{agent}");
    assert_eq!(image.cat("/etc/hostname"), "attic\n");
    assert_eq!(image.cat("/etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\tattic\n");
    assert_eq!(image.cat("/etc/machine-id"), "");
    assert!(!image.debugfs("ls /etc/ssh").contains("ssh_host_"), "host keys are of the board's own making");
    assert_eq!(image.cat("/etc/ssh/sshd_config"), "# as it was\n");
    assert_eq!(image.cat("/root/.ssh/authorized_keys"), "ssh-ed25519 AAAA me@laptop\n");
    assert!(image.debugfs("stat /root/.ssh").contains("Mode:  0700"));
    let network = image.cat("/etc/NetworkManager/system-connections/orangery.nmconnection");
    assert!(network.contains("ssid=At\\shome\n") && network.contains("psk=correct\\shorse\n"), "{network}");
    assert!(image.cat("/etc/modprobe.d/orangery-wifi.conf").contains("regdom=DE"));
    assert!(image.cat("/etc/orangery/agent.d/20-image.toml").contains("[labels]\nsite = \"attic\""));
    let enrolment = run(command("mtype").arg("-i").arg(format!("{}@@1M", out.display())).arg("::/orangery.toml"));
    assert!(enrolment.contains(&format!("token = \"{token}\"\nname = \"attic\"")), "{enrolment}");
    assert!(image.cat("/boot/orangery.toml").is_empty());
    assert_eq!(run(command("sha256sum").arg(&stock)), before, "the stock image is as it was");
}

#[test]
fn one_packed_image_of_armbian_becomes_several_nodes_that_can_grow() {
    let Some(bench) = Bench::new() else { return };
    let token = token();
    let stock = bench.stock("armbian.img", Layout::Armbian);
    run(command("xz").args(["-0", "-k"]).arg(&stock));
    let packed = bench.path("armbian.img.xz");
    std::fs::write(bench.path("armbian.img.xz.sha"), run(command("sha256sum").arg(&packed))).unwrap();
    let out = bench.path("nodes");
    let words =
        ["--out", out.to_str().unwrap(), "--count", "2", "--name-prefix", "attic-", "--invite", &token, "--json"];
    let said = bench.made(&packed, &[&words[..], &["--grow", "32M"]].concat());
    for (number, line) in said.lines().enumerate() {
        let name = format!("attic-{}", number + 1);
        let made: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((made["node"].as_str(), made["enrolment"].as_str()), (Some(&*name), Some("/boot/orangery.toml")));
        assert!(made["free_bytes"].as_u64().unwrap() > ROOT_BYTES, "it has grown: {made}");
        let path = out.join(format!("{name}.img"));
        let image = Image { path: &path, offset: 8_192 * 512 };
        image.is_sound();
        run(command("sfdisk").arg("--verify").arg(&path));
        assert_eq!(image.cat("/etc/hostname"), format!("{name}\n"));
        assert!(image.cat("/boot/orangery.toml").contains(&format!("name = \"{name}\"")));
        assert!(image.debugfs("stat /boot/orangery.toml").contains("Mode:  0600"));
    }
    assert_eq!(said.lines().count(), 2);
    bench.refused(&packed, &words, "is there already");
}

/// A bundle of an owner whose first root is `root`.
fn bundle(root: &[u8], releases: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |name: &str, content: &[u8]| {
        bytes.extend(header(name, content.len() as u64).unwrap());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    };
    put("metadata/1.root.json", root);
    for release in releases {
        put(&format!("targets/{release}/{}.manifest.json", "0".repeat(64)), b"{}");
    }
    put("metadata/timestamp.json", b"{}");
    bytes.extend([0; 2 * BLOCK_BYTES]);
    bytes
}

#[test]
fn an_image_that_has_an_agent_gets_an_invite_and_what_it_runs_without_a_network() {
    let Some(bench) = Bench::new() else { return };
    let (stock, first, second) = (bench.stock("pi.img", Layout::Pi), bench.path("first.img"), bench.path("second.img"));
    let token = token();
    let put = |name: &str, root: &[u8], releases: &[&str]| {
        let path = bench.path(name);
        std::fs::write(&path, bundle(root, releases)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ours = put("ours", b"root", &["greeter/1.0.0"]);
    let words = ["--unchecked", "--name", "attic", "--invite", &token];
    let out = |path: &Path| ["--out".to_owned(), path.to_str().unwrap().to_owned()];

    let to = out(&first);
    let without = bench.customize_as_it_is(&stock, &[&words[..], &[&to[0], &to[1]]].concat());
    let text = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(text.contains("give the program with --agent") && !first.exists(), "{text}");
    bench.made(&stock, &[&words[..], &[&to[0], &to[1]]].concat());

    let to = out(&second);
    let made = bench.customize_as_it_is(&first, &[&words[..], &[&to[0], &to[1], "--preload", &ours]].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let image = Image { path: &second, offset: 34_816 * 512 };
    image.is_sound();
    let listed = image.debugfs("ls /var/lib/orangery/preload");
    assert!(listed.contains("greeter@1.0.0.bundle"), "{listed}");
    assert!(image.debugfs("stat /usr/bin/orangery-agent").contains("Size: 5000"), "its agent is as it was");

    let third = bench.path("third.img");
    let to = out(&third);
    for (preload, expected) in [
        (put("foreign", b"another root", &["greeter/1.0.0"]), "of another owner than the invite"),
        (put("two", b"root", &["greeter/1.0.0", "greeter/1.1.0"]), "it has 2 releases"),
        (put("none", b"root", &[]), "it has 0 releases"),
        (bench.path("agent").to_str().unwrap().to_owned(), "it is not a bundle"),
        ("nonsense".to_owned(), "neither a file nor a release"),
    ] {
        let refused = bench.customize(&first, &[&words[..], &[&to[0], &to[1], "--preload", &preload]].concat());
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains(expected) && !third.exists(), "{expected:?} in {text:?}");
    }
}
