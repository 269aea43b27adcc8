//! What an image gets: files, links and settings, as far as its system knows what to do with them.

use std::collections::BTreeMap;
use std::path::Path;

use super::ext4::Ext4;
use super::{ImageError, Wifi, Wish};

/// The agent's unit, as the packages have it.
const UNIT: &str = include_str!("../../../agent/systemd/orangery-agent.service");
const AGENT: &str = "/usr/bin/orangery-agent";
const UNITS: &str = "/usr/lib/systemd/system";
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants";
/// Where the agent looks for what came with the image.
pub const PRELOAD: &str = "/var/lib/orangery/preload";
/// The token is read here at the first boot, on whichever partition it lies.
pub const ENROLMENT: &str = "orangery.toml";

/// One change of the root partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A file with these bytes and permission bits, root's.
    File {
        /// Where.
        path: String,
        /// Its content.
        bytes: Vec<u8>,
        /// Its permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where.
        path: String,
        /// What it says.
        target: String,
    },
    /// Nothing there any more.
    Removed {
        /// Where.
        path: String,
    },
}

impl Change {
    fn file(path: impl Into<String>, bytes: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self::File { path: path.into(), bytes: bytes.into(), mode }
    }

    /// Where it is made.
    pub fn path(&self) -> &str {
        match self {
            Self::File { path, .. } | Self::Link { path, .. } | Self::Removed { path } => path,
        }
    }
}

/// All changes of the root partition, and the enrolment file if a FAT partition is to have it.
#[derive(Debug)]
pub struct Changes {
    /// Of the root partition.
    pub root: Vec<Change>,
    /// The content of [`ENROLMENT`].
    pub enrolment: String,
    /// Whether it belongs on the FAT partition.
    pub on_fat: bool,
}

/// What `root` is to get.
pub fn changes(
    root: &Ext4,
    wish: &Wish,
    agent: Option<(&Path, Vec<u8>)>,
    has_fat: bool,
) -> Result<Changes, ImageError> {
    let mut all = Vec::new();
    if let Some((path, agent)) = agent {
        check_processor(root, path, &agent)?;
        all.push(Change::file(AGENT, agent, 0o755));
        all.push(Change::file(format!("{UNITS}/orangery-agent.service"), UNIT, 0o644));
    } else if !root.is_file(AGENT)? {
        let reason = format!("there is no {AGENT} in it; give the program with --agent");
        return Err(ImageError::Unsupported { what: "the agent that it came with", reason });
    }
    all.extend([
        Change::Link {
            path: format!("{WANTED}/orangery-agent.service"),
            target: format!("{UNITS}/orangery-agent.service"),
        },
        Change::file("/etc/hostname", format!("{}\n", wish.name), 0o644),
        Change::file("/etc/hosts", hosts(&root.read("/etc/hosts")?, wish), 0o644),
        // Made anew at the first boot, so that no two boards have the same.
        Change::file("/etc/machine-id", "", 0o444),
    ]);
    if !wish.labels.is_empty() {
        all.push(Change::file("/etc/orangery/agent.d/20-image.toml", labels(wish), 0o644));
    }
    if let Some(wifi) = &wish.wifi {
        all.extend(wireless(root, wifi)?);
    }
    all.extend(logins(root, wish)?);
    let enrolment = format!(
        "# Read once, at the first boot; then the token is wiped. How it went: orangery-status.txt beside this file.\n\
         token = \"{}\"\nname = \"{}\"\n",
        wish.token, wish.name
    );
    let on_fat = has_fat && mounts_fat_at_boot(&root.read("/etc/fstab")?);
    if !on_fat {
        all.push(Change::file(format!("/boot/{ENROLMENT}"), enrolment.clone(), 0o600));
    }
    Ok(Changes { root: all, enrolment, on_fat })
}

fn check_processor(root: &Ext4, path: &Path, agent: &[u8]) -> Result<(), ImageError> {
    let init = root.read("/usr/lib/systemd/systemd")?;
    let Some(expected) = processor(&init) else {
        let reason = "there is no /usr/lib/systemd/systemd in it".to_owned();
        return Err(ImageError::Unsupported { what: "the agent as a service", reason });
    };
    let found = processor(agent).unwrap_or_else(|| "no Linux program".to_owned());
    if found == expected {
        return Ok(());
    }
    Err(ImageError::WrongProcessor { agent: path.to_owned(), found, expected })
}

/// What a program is for: `e_machine` of its ELF header (System V ABI, "ELF Header").
fn processor(program: &[u8]) -> Option<String> {
    if program.get(..4)? != b"\x7fELF" {
        return None;
    }
    let machine = u16::from_le_bytes([*program.get(18)?, *program.get(19)?]);
    Some(match machine {
        0x28 => "arm (32 bits)".to_owned(),
        0x3e => "x86-64".to_owned(),
        0xb7 => "arm64".to_owned(),
        0xf3 => "riscv64".to_owned(),
        other => format!("machine {other} of ELF"),
    })
}

/// The host's own name, as Debian writes it.
fn hosts(before: &[u8], wish: &Wish) -> String {
    let text = String::from_utf8_lossy(before);
    let others = text.lines().filter(|line| !line.trim_start().starts_with("127.0.1.1"));
    let mut lines: Vec<String> = others.map(str::to_owned).collect();
    if !lines.iter().any(|line| line.starts_with("127.0.0.1")) {
        lines.push("127.0.0.1\tlocalhost".to_owned());
    }
    lines.push(format!("127.0.1.1\t{}", wish.name));
    lines.join("\n") + "\n"
}

fn labels(wish: &Wish) -> String {
    let labels: BTreeMap<&str, &str> = wish.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
    // Texts always can be written.
    let table = toml::to_string(&BTreeMap::from([("labels", labels)])).unwrap_or_default();
    format!("# Written with the image.\n{table}")
}

fn wireless(root: &Ext4, wifi: &Wifi) -> Result<Vec<Change>, ImageError> {
    let mut changes = Vec::new();
    if let Some(country) = &wifi.country {
        let options = format!("options cfg80211 ieee80211_regdom={country}\n");
        changes.push(Change::file("/etc/modprobe.d/orangery-wifi.conf", options, 0o644));
    }
    if root.is_file("/usr/sbin/NetworkManager")? {
        let path = "/etc/NetworkManager/system-connections/orangery.nmconnection";
        changes.push(Change::file(path, network_manager(wifi), 0o600));
    } else if root.is_file("/usr/sbin/netplan")? {
        changes.push(Change::file("/etc/netplan/60-orangery.yaml", netplan(wifi), 0o600));
    } else {
        let reason = "it has neither NetworkManager nor netplan".to_owned();
        return Err(ImageError::Unsupported { what: "a wireless network", reason });
    }
    Ok(changes)
}

/// nm-settings-keyfile(5)
fn network_manager(wifi: &Wifi) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace(';', "\\;").replace(' ', "\\s");
    let security = wifi.passphrase.as_ref().map_or_else(String::new, |passphrase| {
        format!("[wifi-security]\nkey-mgmt=wpa-psk\npsk={}\n\n", escaped(passphrase))
    });
    format!(
        "[connection]\nid=orangery\ntype=wifi\n\n[wifi]\nmode=infrastructure\nssid={}\n\n{security}[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n",
        escaped(&wifi.ssid)
    )
}

/// netplan(5); a JSON text is a YAML text.
fn netplan(wifi: &Wifi) -> String {
    let mut point = serde_json::Map::new();
    if let Some(passphrase) = &wifi.passphrase {
        point.insert("password".to_owned(), passphrase.as_str().into());
    }
    let mut radio = serde_json::json!({
        "dhcp4": true, "optional": true, "access-points": { wifi.ssid.as_str(): point },
    });
    if let (Some(country), Some(radio)) = (&wifi.country, radio.as_object_mut()) {
        radio.insert("regulatory-domain".to_owned(), country.as_str().into());
    }
    let all = serde_json::json!({ "network": { "version": 2, "wifis": { "wlan0": radio } } });
    format!("# Written with the image.\n{all:#}\n")
}

/// Host keys of its own for each board, and who may log in.
fn logins(root: &Ext4, wish: &Wish) -> Result<Vec<Change>, ImageError> {
    let mut changes = Vec::new();
    let has_server = root.is_file(&format!("{UNITS}/ssh.service"))?;
    if has_server {
        let names = root.list("/etc/ssh")?;
        let keys = names.iter().filter(|name| {
            name.starts_with("ssh_host_") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b))
        });
        changes.extend(keys.map(|name| Change::Removed { path: format!("/etc/ssh/{name}") }));
        // The server's own check comes after the keys are there.
        let made = "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n";
        changes.push(Change::file("/etc/systemd/system/ssh.service.d/orangery-host-keys.conf", made, 0o644));
    }
    let Some(keys) = &wish.ssh_keys else { return Ok(changes) };
    if !has_server {
        let reason = "it has no ssh.service".to_owned();
        return Err(ImageError::Unsupported { what: "logins by SSH", reason });
    }
    changes.push(Change::file("/root/.ssh/authorized_keys", keys.as_bytes(), 0o600));
    changes.push(Change::Link { path: format!("{WANTED}/ssh.service"), target: format!("{UNITS}/ssh.service") });
    Ok(changes)
}

/// Whether the system mounts a FAT partition where the agent looks for the enrolment file.
fn mounts_fat_at_boot(fstab: &[u8]) -> bool {
    String::from_utf8_lossy(fstab).lines().any(|line| {
        let mut words = line.split_whitespace();
        let (what, place, kind) = (words.next(), words.next(), words.next());
        what.is_some_and(|what| !what.starts_with('#'))
            && matches!(place, Some("/boot" | "/boot/firmware"))
            && kind == Some("vfat")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wifi(ssid: &str, passphrase: Option<&str>) -> Wifi {
        Wifi { ssid: ssid.into(), passphrase: passphrase.map(Into::into), country: Some("DE".into()) }
    }

    #[test]
    fn a_wireless_network_with_odd_letters_stays_what_it_is() {
        let text = network_manager(&wifi("Café; \\o/", Some("pass word=1")));
        assert!(text.contains("ssid=Café\\;\\s\\\\o/\n") && text.contains("psk=pass\\sword=1\n"), "{text}");
        assert!(!network_manager(&wifi("open", None)).contains("wifi-security"));
        let text = netplan(&wifi("a\"b: c", Some("12345678")));
        let (_, json) = text.split_once('\n').unwrap();
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        let radio = &value["network"]["wifis"]["wlan0"];
        assert_eq!(radio["access-points"]["a\"b: c"]["password"], "12345678");
        assert_eq!(radio["regulatory-domain"], "DE");
    }

    #[test]
    fn the_fat_partition_counts_where_the_system_mounts_it() {
        assert!(mounts_fat_at_boot(b"PARTUUID=1-01  /boot/firmware  vfat  defaults  0 2\n"));
        assert!(mounts_fat_at_boot(b"# boot\nLABEL=BOOT /boot vfat defaults\n"));
        for other in ["", "# UUID=1 /boot vfat", "UUID=1 /boot/efi vfat", "UUID=1 /boot ext4", "UUID=1"] {
            assert!(!mounts_fat_at_boot(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_program_says_which_processor_it_is_for() {
        let mut program = b"\x7fELF".to_vec();
        program.resize(64, 0);
        program[18] = 0xb7;
        assert_eq!(processor(&program).as_deref(), Some("arm64"));
        program[18..20].copy_from_slice(&[1, 1]);
        assert_eq!(processor(&program).as_deref(), Some("machine 257 of ELF"));
        for bad in [&b""[..], b"#!/bin/sh\n", b"\x7fELF"] {
            assert_eq!(processor(bad), None);
        }
    }
}
