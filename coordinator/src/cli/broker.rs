//! `orangery broker`: what another broker needs to be ours.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;

use super::Outcome;
use crate::broker::acl::{Mosquitto, mosquitto_acl, mosquitto_config};
use crate::ca::{Ca, write_secret};
use crate::config::{Config, Mqtt};
use crate::home::Home;
use crate::output;
use crate::owner::write_file;

/// `orangery broker`
#[derive(Debug, Subcommand)]
pub enum BrokerCommand {
    /// Write down who may use which topic, in the broker's own words
    #[command(subcommand)]
    Acl(AclCommand),
}

/// `orangery broker acl`
#[derive(Debug, Subcommand)]
pub enum AclCommand {
    /// Print the access list for Mosquitto, or write all files that it needs
    Mosquitto {
        /// Write settings, access list, CA and a certificate for the broker into this directory
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

pub fn run(home: &Home, command: &BrokerCommand) -> anyhow::Result<Outcome> {
    let BrokerCommand::Acl(AclCommand::Mosquitto { out }) = command;
    match out {
        None => {
            output::line(mosquitto_acl().trim_end())?;
            output::note("--out DIR writes the settings and a certificate for the broker as well");
        }
        Some(out) => {
            write_all(home, out).with_context(|| format!("cannot write Mosquitto's files into {}", out.display()))?;
            let out = out.display();
            output::line(format!(
                "Written into {out}: mosquitto.conf, acl, ca.pem, broker.pem and broker.key, which the user that Mosquitto \
                 runs as must be able to read.\n\nNext:\n  mosquitto -c {out}/mosquitto.conf"
            ))?;
        }
    }
    Ok(Outcome::Done)
}

/// Settings and access list are written anew; the broker's certificate and key, once made, are left as they are.
fn write_all(home: &Home, out: &Path) -> anyhow::Result<()> {
    let config = Config::load(&home.coordinator_settings())?;
    let (host, port) = broker_address(&config);
    fs::create_dir_all(out)?;
    let out = out.canonicalize()?;
    let (certificate, key, ca_copy, acl) =
        (out.join("broker.pem"), out.join("broker.key"), out.join("ca.pem"), out.join("acl"));
    let ca = Ca::load(&config.keys.ca_key, &config.keys.ca)?;
    write_file(&ca_copy, ca.certificate_pem().as_bytes(), 0o644)?;
    if !key.exists() {
        let issued = ca.issue_server(&[host], output::now())?;
        write_file(&certificate, issued.certificate.pem.as_bytes(), 0o644)?;
        write_secret(&key, &issued.key_pem)?;
    }
    let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    let mosquitto = Mosquitto { listen, ca: &ca_copy, certificate: &certificate, key: &key, acl: &acl };
    write_file(&acl, mosquitto_acl().as_bytes(), 0o644)?;
    write_file(&out.join("mosquitto.conf"), mosquitto_config(&mosquitto).as_bytes(), 0o644)?;
    Ok(())
}

/// Host and port by which nodes reach the broker. Both were checked when the settings were read.
fn broker_address(config: &Config) -> (String, u16) {
    let address = match &config.mqtt {
        Mqtt::Embedded { advertise, .. } => advertise,
        Mqtt::External { address } => address,
    };
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (host.trim_start_matches('[').trim_end_matches(']').to_owned(), port.parse().unwrap_or(8883))
}
